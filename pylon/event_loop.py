"""The event loop of Pylon's processes: names are looked up in threads that nobody has to wait for.

A lookup cannot be broken off, and takes half a minute to fail where a network answers nothing, as in a hotel before
one has signed in. asyncio would look names up on the few threads that all other work shares, and a program cannot end
before those have.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any


class EventLoop(asyncio.SelectorEventLoop):
    """The loop that asyncio uses on Unix, with lookups of its own."""

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As asyncio's; every connection to a host name calls it."""
        found: asyncio.Future[Any] = self.create_future()
        look_up = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        threading.Thread(target=_look_up, args=(look_up, found), name="name lookup", daemon=True).start()
        return await found


def _look_up(look_up: Callable[[], Any], found: asyncio.Future[Any]) -> None:
    tell: Callable[[], None]
    try:
        tell = partial(_settle, found, look_up())
    except Exception as error:
        tell = partial(_fail, found, error)
    # The loop may be closed by now.
    with suppress(RuntimeError):
        found.get_loop().call_soon_threadsafe(tell)


def _settle(found: asyncio.Future[Any], addresses: Any) -> None:
    # Whoever asked may have given up.
    if not found.done():
        found.set_result(addresses)


def _fail(found: asyncio.Future[Any], error: Exception) -> None:
    if not found.done():
        found.set_exception(error)
