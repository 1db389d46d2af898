"""A small Nostr relay to run oneself."""
