"""Payments: which jobs run on credit and which after a payment, invoices, and what a job costs."""
