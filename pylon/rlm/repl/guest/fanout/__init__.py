"""Automatic fan-out: loops over independent sub-calls send them together."""
