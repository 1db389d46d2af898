"""Recursive Language Models: a root model that writes code over its prompt and calls models on the pieces."""
