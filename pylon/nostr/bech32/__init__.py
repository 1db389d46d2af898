"""Keys and ids as text: NIP-19, encrypted keys (NIP-49), and the bech32 checksum of both."""
