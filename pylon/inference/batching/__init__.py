"""The common part of the engines that batch: requests, shared prefixes, answers."""
