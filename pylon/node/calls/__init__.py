"""How commands and programs call the process that owns a home."""
