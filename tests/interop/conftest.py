"""Our provider on a relay, and other people's clients beside it."""

from tests.provider.conftest import relay, serve

__all__ = ["relay", "serve"]
