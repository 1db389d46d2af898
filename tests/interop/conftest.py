"""Our provider on a relay, and other people's clients beside it."""

from tests.provider.conftest import another_customer, customer, relay, serve

__all__ = ["another_customer", "customer", "relay", "serve"]
