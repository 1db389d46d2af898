"""A relay without open files left says so, in one line and not in asyncio's thousands.

Whoever connects and says nothing takes one for ten seconds, and none of a relay's limits counts that.
"""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from pylon import log
from pylon.clock import Clock

_AGAIN_S = 60.0
# asyncio's words. It says them a thousand times a second, each with a trace.
_OUT = "socket.accept() out of system resource"

_log = log.get("relay")


def say_once(loop: asyncio.AbstractEventLoop, clock: Clock) -> Callable[[], None]:
    """From now on it is said once a minute that connections have to wait; what ends that."""
    before = loop.get_exception_handler()
    told_at = -_AGAIN_S

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told_at
        if context.get("message") == _OUT:
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
