"""Connects to a host that a stranger named: its addresses are checked, and exactly those are connected to.

The owner of a name can point it at another address a moment later (DNS rebinding). So checking a name once is not
enough: the addresses are resolved and checked for every connection, reconnections included, before anything is sent.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

# The time for resolving and connecting.
DIAL_S = 10.0

type Resolve = Callable[[str], Awaitable[Iterable[str]]]
type Dial = Callable[[str, int], Awaitable[socket.socket]]


async def resolve(host: str) -> Iterable[str]:
    """The IP addresses of a host name, in the order in which to try them (RFC 6724). Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return dict.fromkeys(str(address[0]) for *_, address in found)


async def dial_judged(
    host: str, port: int, *, may_dial: Callable[[str], bool], resolve: Resolve = resolve
) -> socket.socket:
    """A connected, non-blocking TCP socket.

    Raises `OSError` when no address answers, or one of them is not allowed by `may_dial`; `TimeoutError` after
    `DIAL_S` seconds.
    """
    async with asyncio.timeout(DIAL_S):
        addresses = list(await resolve(host))
        if not all(map(may_dial, addresses)):
            raise OSError(f"{host} stands for an address that is not public")
        for address in addresses:
            opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            opened.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(opened, (address, port))
            except BaseException as error:
                opened.close()
                if not isinstance(error, OSError):
                    raise
            else:
                with suppress(OSError):
                    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return opened
    raise OSError(f"{host} cannot be reached")
