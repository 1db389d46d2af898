"""From the queue to the signed result."""
