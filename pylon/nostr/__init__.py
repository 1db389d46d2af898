"""Nostr: keys, signed events, encryption, one relay connection, and the pool of them."""
