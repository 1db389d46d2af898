"""The child process that holds the model, and the node's side that supervises it."""
