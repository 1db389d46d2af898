"""What every engine that batches has in common: requests, shared heads, answers."""
