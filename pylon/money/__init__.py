"""Amounts, invoices, wallets, accounts and the ledger."""
