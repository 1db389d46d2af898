"""`scripts/demo`: a question about a text that no model here could read, answered by a swarm on this machine.

A relay, two providers and a customer, each a process with a home and a key of its own, started through the same
commands that people use. In the text one fact was planted; the customer's `pylon rlm` has to find it.
"""
