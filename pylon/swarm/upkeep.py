"""The background tasks of a client: listening, asking relays for stored events, and ticks for the deciders."""

import asyncio
from collections.abc import Awaitable, Callable

from pylon import log
from pylon.swarm.dispatch import messages as m
from pylon.swarm.parts import Parts
from pylon.tasks import Tasks

logger = log.get("swarm")

TICK_S = 0.1
IDLE_TICK_S = 1.0
LOOK_S = 0.5


class Upkeep:
    """See the module. It runs in the event loop that it is started in."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks = Tasks("a part of the customer stopped")

    def start(self) -> None:
        """Starts the tasks."""
        parts, start = self._parts, self._tasks.start
        start(parts.inbox.run(), "answers")
        start(parts.presence.run(), "presence")
        start(self._tick(), "ticks")
        # Each by itself: anybody can make us ask for a thousand announcements, and a lost answer waits for its look.
        start(_repeated(parts.inbox.look), "looks")
        start(_repeated(parts.presence.complete), "announcements")
        if parts.late is not None:
            start(parts.late.run(), "late receipts")
        if parts.reach is not None:
            start(parts.reach.run(), "reach")

    async def close(self) -> None:
        """Cancels the tasks."""
        await self._tasks.close()

    async def _tick(self) -> None:
        parts = self._parts
        while True:
            try:
                parts.presence.expire()
                parts.relays.look()
                parts.deciders.tell(m.Tick())
            except Exception as error:
                # The ticks must go on: without them no job would ever time out.
                logger.error("a turn of the customer failed", exc_info=error)
            busy = parts.deciders.dispatcher.open > 0
            warmed = not busy and parts.presence.warm_one()
            await asyncio.sleep(TICK_S if busy else 0 if warmed else IDLE_TICK_S)


async def _repeated(look: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            await look()
        except Exception as error:
            logger.error("a look at the relays failed", exc_info=error)
