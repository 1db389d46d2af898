"""How tests wait for what happens in its own time: they look for it, as nobody knows how long it takes."""

import asyncio
from collections.abc import Callable


async def until[T](found: Callable[[], T], within_s: float = 20.0) -> T:
    """The first true value of `found`. Raises `TimeoutError` after `within_s` seconds without one."""
    async with asyncio.timeout(within_s):
        while not (value := found()):
            await asyncio.sleep(0.005)
    return value
