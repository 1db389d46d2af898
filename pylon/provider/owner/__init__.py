"""Owner rules: when this machine takes no jobs."""
