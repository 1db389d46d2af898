"""The TLS context for relays, made once: reading the system's certificates takes most of a megabyte."""

import functools
import ssl


def context_for(secure: bool) -> ssl.SSLContext | None:
    """The TLS context of a connection; None for one without TLS."""
    return _context() if secure else None


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
