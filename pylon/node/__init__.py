"""The running node: one process a home, which owns database, relays and control socket."""
