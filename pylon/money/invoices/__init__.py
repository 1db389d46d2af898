"""Being paid: invoices read, made known and settled."""
