"""What a customer and a provider owe each other, on both sides."""
