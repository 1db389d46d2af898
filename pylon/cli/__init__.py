"""Doors for people: one file a command group."""
