"""Keys and ids as text: NIP-19, a key under a password (NIP-49), and the checksum of both."""
