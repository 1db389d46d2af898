"""Hashes, signatures, key agreement, encryption, and keys from seed phrases."""
