"""Requests out and answers in."""
