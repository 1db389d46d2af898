"""Who is there: what relays tell of providers, and where they are reached."""
