"""Automatic fan-out: sub-calls that code will make in any case are sent together."""
