"""The URLs of a gateway, to show to the person who starts it."""

import ipaddress
from collections.abc import Sequence

from pylon.relay_url import is_loopback

UNENCRYPTED = (
    "HTTP is not encrypted: anyone on the network path can read the token, the prompts and the "
    "answers. Use a TLS proxy or a tunnel."
)


def urls(host: str, port: int, addresses: Sequence[str]) -> tuple[str, list[str]]:
    """The URL for this machine, and those for other machines. `addresses` are this machine's, for a gateway that
    listens on all of them.
    """
    try:
        listens = ipaddress.ip_address(host)
    except ValueError:
        listens = None
    if listens is None or not listens.is_unspecified:
        here = _url(host, port)
        return here, [] if is_loopback(host) else [here]
    # A server that listens on all IPv6 addresses accepts IPv4 as well, but not the other way round.
    others = [one for one in addresses if listens.version == 6 or ":" not in one]
    return _url("127.0.0.1" if listens.version == 4 else "::1", port), [_url(one, port) for one in others]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
