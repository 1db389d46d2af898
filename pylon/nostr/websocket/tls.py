"""The TLS context for relays, made once: reading the system's certificates takes most of a megabyte."""

import functools
import ssl
from pathlib import Path


def context_for(secure: bool) -> ssl.SSLContext | None:
    """The TLS context of a connection; None for one without TLS."""
    return _context() if secure else None


@functools.cache
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not _has_authorities(context):
        # python.org's Python for macOS looks for authorities where nothing is until "Install Certificates.command"
        # was run, and would trust no relay. Imported here, because few need it.
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _has_authorities(context: ssl.SSLContext) -> bool:
    if context.cert_store_stats()["x509_ca"]:
        return True
    # Those in a folder are read one by one, when a certificate names them; until then none is counted.
    folder = ssl.get_default_verify_paths().capath
    return folder is not None and any(Path(folder).glob("*.0"))
