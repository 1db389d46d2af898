"""The OpenAI engine: a server elsewhere."""
