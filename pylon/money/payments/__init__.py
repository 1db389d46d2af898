"""Paying: who holds the purse strings, and each step on disk."""
