"""Tasks of the RLM paper (arXiv 2512.24601) that can be made offline, its scorers, and a runner."""
