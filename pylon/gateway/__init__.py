"""The program interface over HTTP: chat completions as OpenAI shapes them, the page of a node, metrics."""
