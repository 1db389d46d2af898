"""A bank of play money, and its door."""
