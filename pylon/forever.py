"""Loops that go on for as long as their owner does: no one error ends them."""

import asyncio
from collections.abc import Awaitable, Callable

from pylon import log

logger = log.get("loop")

# After an error: long enough that a disk that stays full does not fill the log as well.
REST_S = 5.0


async def forever(turn: Callable[[], Awaitable[None]], name: str) -> None:
    """Takes one turn after the other until it is cancelled.

    A turn waits for something, if only for time to pass. An error ends its own turn alone: it is logged under `name`,
    and the next begins `REST_S` seconds later.
    """
    while True:
        try:
            await turn()
        except Exception:
            logger.exception("an error ended a turn; trying again soon", loop=name)
            await asyncio.sleep(REST_S)
