"""Whether answers are good: which are looked at, how, and what follows for those who gave them."""
