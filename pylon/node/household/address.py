"""This machine's address, as other machines of its network know it."""

import ipaddress
import socket
import sys
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from pylon.host.names import multicast_name
from pylon.relay_url import is_loopback
from pylon.sections import RelaySection

# Other machines of the network are to reach it; who may use it is the door's matter.
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - see above
# An address of the documentation (RFC 5737): no packet is sent to find the way towards it.
_ELSEWHERE = ("192.0.2.1", 9)


def reachable(url: str) -> str:
    """A relay's address as other machines of this network know it: loopback becomes this machine's own.

    A Mac goes by its name, which stays when its address changes; elsewhere not every network knows names.
    """
    parts = urlsplit(url)
    if parts.hostname is None or not is_loopback(parts.hostname):
        return url
    port = f":{parts.port}" if parts.port is not None else ""
    host = f"{multicast_name()}.local" if sys.platform == "darwin" else own_address()
    return urlunsplit(parts._replace(netloc=f"{host}{port}"))


def own_relay(section: RelaySection) -> str:
    """Where the household's relay of this machine listens, by its settings; empty where it takes any free port."""
    host = section.host if "host" in section.model_fields_set else ALL_ADDRESSES
    return f"ws://{f'[{host}]' if ':' in host else host}:{section.port}" if section.port else ""


def invited(urls: Iterable[str], hub: str) -> tuple[str, ...]:
    """The addresses that an invite names: `hub` is where our own relay listens, empty when nobody knows.

    One that listens on loopback alone is for this machine's other homes, and found there only.
    """
    alone = hub if is_loopback(urlsplit(hub).hostname or "") else ""
    return tuple(url if url == alone else reachable(url) for url in urls)


def local(url: str) -> str:
    """A relay's address as its own machine reaches it: one that listens on all addresses is at loopback too."""
    parts = urlsplit(url)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return url
    if not address.is_unspecified:
        return url
    host = "127.0.0.1" if address.version == 4 else "[::1]"
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}"))


def own_name() -> str:
    """What this machine calls itself."""
    return socket.gethostname().removesuffix(".local")


def own_address() -> str:
    """This machine's address in its network; loopback when it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
