"""Recursive Language Models over this node: one question, many, and for programs."""
