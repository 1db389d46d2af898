"""Runs models on this machine: several engines with one protocol, in a child process."""
