"""Wallets over Nostr Wallet Connect (NIP-47)."""
