"""`pylon doctor`: what is read of a node, its machine and its relays, and what that means."""
