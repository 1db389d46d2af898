"""Which addresses are this relay's own: a client that authenticates has to name one of them (NIP-42).

Else another relay could pass our challenge on to its client, and authenticate here with the client's answer. The port
is compared too, since that relay may run on this machine. The `Host` header is no evidence: that relay writes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pylon.relay_url import MAX_URL, host_and_port, is_loopback, normalize_relay_url

type Authority = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Addresses:
    """`names` are this machine's host names and addresses, in lower case, and `port` is where the relay listens;
    `public` are further addresses that clients know it by, such as that of a proxy.
    """

    names: frozenset[str]
    port: int
    public: frozenset[Authority] = frozenset()

    def holds(self, address: Authority) -> bool:
        """Whether this is one of them. Loopback counts at our port: a client that names its own machine was not sent
        here by a relay elsewhere.
        """
        host, port = address
        if address in self.public:
            return True
        return port == self.port and (host in self.names or is_loopback(host))


def authority(url: str) -> Authority | None:
    """Host and port of a relay's URL written by a stranger, or None if it is not the URL of a relay."""
    if len(url) > MAX_URL:
        return None
    try:
        host, port = host_and_port(url)
    except ValueError:
        return None
    return (host, port) if host else None


def public_authorities(urls: Iterable[str]) -> frozenset[Authority]:
    """Host and port of each relay URL in the settings. Raises `MalformedError` for one that is not valid."""
    found = (authority(normalize_relay_url(url)) for url in urls)
    return frozenset(one for one in found if one is not None)
