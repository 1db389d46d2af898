"""Tests any provider against the schema `pylon/1`, clause by clause, with a customer that sends bare events."""
