"""The double-entry ledger, and the reports that are made of it."""
