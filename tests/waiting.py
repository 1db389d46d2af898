"""How tests wait for what happens in its own time: they look for it, as nobody knows how long it takes."""

import asyncio
from collections.abc import Callable

import pytest


async def until[T](found: Callable[[], T], within_s: float = 20.0) -> T:
    """The first true value of `found`. Raises `TimeoutError` after `within_s` seconds without one."""
    async with asyncio.timeout(within_s):
        while not (value := found()):
            await asyncio.sleep(0.005)
    return value


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Lets so much time pass at once for all that waits in this event loop: a timer that must not run out before
    something else happened can be long, and yet nobody waits for it."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + seconds)
