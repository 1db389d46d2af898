"""Connects to a host that a stranger named: its addresses are checked, and exactly those are connected to.

The owner of a name can point it at another address a moment later (DNS rebinding). So checking a name once is not
enough: the addresses are resolved and checked for every connection, reconnections included, before anything is sent.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from aiohappyeyeballs import start_connection

# The time for resolving and connecting.
DIAL_S = 10.0
# An address that has not answered within so many seconds has the next one tried beside it, so that a network that
# carries IPv6 in name only keeps nobody from a relay. Source: RFC 8305, section 5.
NEXT_ADDRESS_S = 0.25

type Resolve = Callable[[str], Awaitable[Iterable[str]]]
type Dial = Callable[[str, int], Awaitable[socket.socket]]


async def resolve(host: str) -> Iterable[str]:
    """The IP addresses of a host name, in the order in which to try them (RFC 6724). Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return dict.fromkeys(str(address[0]) for *_, address in found)


async def dial_judged(
    host: str, port: int, *, may_dial: Callable[[str], bool], resolve: Resolve = resolve
) -> socket.socket:
    """A connected, non-blocking TCP socket, to the first address that answers.

    Raises `OSError` when no address answers, or one of them is not allowed by `may_dial`; `TimeoutError` after
    `DIAL_S` seconds.
    """
    async with asyncio.timeout(DIAL_S):
        addresses = list(await resolve(host))
        if not all(map(may_dial, addresses)):
            raise OSError(f"{host} stands for an address that is not public")
        if not addresses:
            raise OSError(f"{host} has no address")
        try:
            opened = await start_connection(
                [_target(address, port) for address in addresses], happy_eyeballs_delay=NEXT_ADDRESS_S
            )
        except OSError as error:
            raise OSError(f"{host} cannot be reached: {error}") from error
    with suppress(OSError):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def _target(address: str, port: int) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]:
    """What `getaddrinfo` gives for an address."""
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)
