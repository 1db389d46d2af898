"""Doors for programs: OpenAI-shaped HTTP, the page of a node, metrics."""
