"""The event loop of Pylon's processes: names are looked up in threads that nobody has to wait for.

A lookup cannot be broken off, and takes half a minute to fail where a network answers nothing, as in a hotel before
one has signed in. asyncio would look names up on the few threads that all other work shares, and a program cannot end
before those have.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any


class EventLoop(asyncio.SelectorEventLoop):
    """The loop that asyncio uses on Unix, with lookups of its own."""

    async def getaddrinfo(self, host: Any, port: Any, **hints: int) -> Any:
        """As asyncio's; every connection to a host name calls it."""
        found: Future[Any] = Future()
        # As with a pool's threads: from here on its outcome is set also when whoever asked has given up.
        found.set_running_or_notify_cancel()
        look_up = partial(socket.getaddrinfo, host, port, **hints)
        threading.Thread(target=_settle, args=(found, look_up), name="name lookup", daemon=True).start()
        return await asyncio.wrap_future(found)


def _settle(found: Future[Any], look_up: Callable[[], Any]) -> None:
    try:
        found.set_result(look_up())
    except Exception as error:
        found.set_exception(error)
