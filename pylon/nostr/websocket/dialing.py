"""Connecting to a host that a stranger named: its addresses are judged, and those very addresses are connected to.

Whoever owns a name can let it stand for another address a moment later (DNS rebinding). So it is not enough to judge
a name once: each connection, also each reconnection, is judged by itself, before anything is sent.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

DIAL_S = 10.0

type Resolve = Callable[[str], Awaitable[Iterable[str]]]
type Dial = Callable[[str, int], Awaitable[socket.socket]]


async def resolve(host: str) -> Iterable[str]:
    """The addresses behind a name. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


async def dial_judged(
    host: str, port: int, *, may_dial: Callable[[str], bool], resolve: Resolve = resolve
) -> socket.socket:
    """A connected socket, non-blocking. Raises `OSError`, also where one of the addresses may not be dialled."""
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
