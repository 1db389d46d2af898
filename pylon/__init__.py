"""Pylon: a paid node of a swarm of language models over Nostr, and the customer of that swarm."""

__version__ = "0.1.0"
