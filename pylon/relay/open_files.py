"""Logs once a minute that the relay can open no more files, in place of asyncio's thousands of lines.

This happens though `RelayLimits.connections` is bounded: a client that connects and sends nothing holds a file for
ten seconds, and is counted by no limit.
"""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from pylon import log
from pylon.clock import Clock

_AGAIN_S = 60.0
# asyncio's message, which it logs a thousand times a second, each time with a stack trace.
_OUT_OF_FILES = "socket.accept() out of system resource"

_log = log.get("relay")


def say_once(loop: asyncio.AbstractEventLoop, clock: Clock) -> Callable[[], None]:
    """Installs an exception handler on `loop` that warns once a minute that new connections must wait.

    Returns the function that puts the earlier handler back.
    """
    before = loop.get_exception_handler()
    told_at = -_AGAIN_S

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told_at
        if context.get("message") == _OUT_OF_FILES:
            if clock.monotonic() - told_at >= _AGAIN_S:
                told_at = clock.monotonic()
                limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                _log.warning("no more files can be opened; new clients must wait (see `ulimit -n`)", limit=limit)
        elif before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)

    loop.set_exception_handler(handle)
    return lambda: loop.set_exception_handler(before)
