"""Hashes, signatures, key agreement and encryption, and a key from the words of a seed phrase."""
