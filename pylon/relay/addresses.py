"""Which addresses are this relay's own: an answer to its challenge has to name one of them (NIP-42).

Host and port are compared, since whoever runs another relay on the same machine may pass a challenge of ours on. The
Host header is not looked at: that one is chosen by the same person.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from pylon.relay_url import MAX_URL, normalize_relay_url

_DEFAULT_PORTS = {"ws": 80, "wss": 443}

type Authority = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Addresses:
    """`names` are this machine's, in lower case, and `port` where it listens; `public` is what else clients know."""

    names: frozenset[str]
    port: int
    public: frozenset[Authority] = frozenset()

    def holds(self, address: Authority) -> bool:
        """Whether this is one of them. Loopback is ours at our port: who names its own machine was not lured."""
        host, port = address
        if address in self.public:
            return True
        return port == self.port and (host in self.names or _is_loopback(host))


def authority(url: str) -> Authority | None:
    """Host and port of a relay's address as a stranger wrote it, or None where that is none."""
    if len(url) > MAX_URL:
        return None
    try:
        parts = urlsplit(url)
        usual = _DEFAULT_PORTS[parts.scheme]
        return None if parts.hostname is None else (parts.hostname, usual if parts.port is None else parts.port)
    except (ValueError, KeyError):
        return None


def public_authorities(urls: Iterable[str]) -> frozenset[Authority]:
    """Host and port of the addresses in our settings. Raises `MalformedError`."""
    found = (authority(normalize_relay_url(url)) for url in urls)
    return frozenset(one for one in found if one is not None)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
