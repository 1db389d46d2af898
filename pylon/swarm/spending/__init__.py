"""What is offered and paid, and how this customer stands with each provider."""
