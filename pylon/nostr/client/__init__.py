"""One relay as its client has it: a lasting connection, subscriptions and publications on it, NIP-11."""
