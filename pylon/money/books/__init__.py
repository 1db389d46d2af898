"""Double entry, and what is read from it."""
