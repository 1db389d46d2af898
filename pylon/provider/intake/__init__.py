"""From the relays into the journal: what is taken on, and what is refused."""
