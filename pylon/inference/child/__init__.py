"""The child process that holds the model, and the node's hold on it."""
