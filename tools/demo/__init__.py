"""`scripts/demo`: a question about a text that no model here could read, answered by a swarm on this machine.

A relay, two providers and a customer, each a process with its own home and key, are started by the same commands that
users type. One fact is planted in the text, and the customer's `pylon rlm` has to find it.
"""
