"""Intake of requests: from the relays into the journal, or refused."""
