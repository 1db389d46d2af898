"""Addresses of this machine's relay, as this machine and others in its network reach it."""

import ipaddress
import socket
import sys
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from pylon.host.names import multicast_name
from pylon.relay_url import is_loopback
from pylon.sections import RelaySection

# Other machines must be able to connect; the relay itself decides whose keys it admits.
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - see above
# An address for documentation (RFC 5737). Connecting a UDP socket to it picks a route and sends no packet.
_ELSEWHERE = ("192.0.2.1", 9)


def reachable(url: str) -> str:
    """A relay's address as other machines in this network reach it: loopback is replaced by this machine's address.

    A Mac is named by its `.local` name, which stays when its address changes. Other systems may not announce one.
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
    """The relay addresses for an invite. `hub` is where our own relay listens, or empty if that is unknown.

    If it listens on loopback only, it is left so: it can serve nothing but other homes on this machine.
    """
    alone = hub if is_loopback(urlsplit(hub).hostname or "") else ""
    return tuple(url if url == alone else reachable(url) for url in urls)


def local(url: str) -> str:
    """A relay's address as its own machine reaches it: loopback in place of an unspecified address (`0.0.0.0`)."""
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
    """This machine's host name, without `.local`."""
    return socket.gethostname().removesuffix(".local")


def own_address() -> str:
    """This machine's IPv4 address in its network; loopback if it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
