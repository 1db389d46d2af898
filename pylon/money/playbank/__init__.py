"""A bank of play money, and its NIP-47 wallet service."""
