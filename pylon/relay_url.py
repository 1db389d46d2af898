"""The one spelling of a relay's address, and which addresses are this machine itself.

Source: NIP-65 (https://github.com/nostr-protocol/nips/blob/master/65.md), whose lists hold normalized addresses.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from pylon.errors import MalformedError

# NIP-19 gives an address one byte of length: a longer one could not be written into an nprofile.
MAX_URL = 255

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_VISIBLE = re.compile(r"[!-~]+\Z")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)


def normalize_relay_url(url: str) -> str:
    """The one spelling of a relay's address: lower-case scheme and host, no default port, no bare slash, no fragment.

    Raises `MalformedError` for a scheme other than ws and wss, a name or password in it, a host that is none, or
    more than 255 characters.
    """
    # Checked before the parser sees it: urlsplit silently drops tabs and line ends.
    url = url.strip()
    if len(url) > MAX_URL or not _VISIBLE.match(url):
        raise MalformedError(f"a relay address must be 1 to {MAX_URL} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise MalformedError("the relay address has an invalid host or port") from None
    scheme = parts.scheme
    if scheme not in _DEFAULT_PORTS:
        raise MalformedError("a relay address must start with wss:// or ws://")
    if "@" in parts.netloc:
        raise MalformedError("a relay address must not contain a user name or password")
    authority = _host(parts)
    if port == 0:
        raise MalformedError("the relay address has an invalid host or port")
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        authority += f":{port}"
    if parts.query:
        return f"{scheme}://{authority}{parts.path or '/'}?{parts.query}"
    return f"{scheme}://{authority}{'' if parts.path == '/' else parts.path}"


# Thousands of providers name the same few relays, in every announcement again.
@lru_cache(maxsize=4_096)
def relay_spelling(url: str) -> str:
    """The normalized address, or the text itself if it is not a valid one: for telling relays apart."""
    try:
        return normalize_relay_url(url)
    except MalformedError:
        return url


def shared_relays(theirs: Iterable[str], ours: Iterable[str]) -> list[str]:
    """Those of our relays that are among theirs, in our spelling and order."""
    named = set(map(relay_spelling, theirs))
    return [url for url in ours if relay_spelling(url) in named]


def host_and_port(url: str) -> tuple[str, int]:
    """Where a relay listens, by its address; the host is empty if there is none in it.

    Raises `ValueError` for a text that is not an address, or not one of a relay.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("a relay address must start with wss:// or ws://")
    return parts.hostname or "", _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port


def is_loopback(host: str) -> bool:
    """Whether this name or address is the machine itself: what listens there is reached from nowhere else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    bracketed, bracket, rest = parts.netloc.rpartition("]")
    if bracket:
        # urlsplit lets text stand between the bracket and the port; a zone (%) means something on one machine only.
        if (rest and not rest.startswith(":")) or "%" in bracketed:
            raise MalformedError("the relay address has an invalid host or port")
        # urlsplit has refused what is no IPv6 address, but not what a later version of IP may look like.
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise MalformedError("the relay address has an invalid host or port") from None
    if not _HOST_NAME.match(host):
        raise MalformedError("the relay address has an invalid host or port")
    return host
