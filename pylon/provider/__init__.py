"""The service provider: admit, queue, run, publish, get paid."""
