"""The client of one relay: a lasting connection, subscriptions, queries and publications on it, NIP-11 and NIP-42."""
