"""TLS towards relays: the system's certificates are read once, since a context takes most of a megabyte."""

import functools
import ssl


def context_for(secure: bool) -> ssl.SSLContext | None:
    """What a connection is secured by; None where it is not to be."""
    return _context() if secure else None


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
