"""What goes on by itself while a customer is open: it listens, looks at what relays have stored, and time passes."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from pylon import log
from pylon.swarm.dispatch import moves as m
from pylon.swarm.parts import Parts
from pylon.swarm.wire.settling import report

logger = log.get("swarm")

TICK_S = 0.1
IDLE_TICK_S = 1.0
LOOK_S = 0.5


class Upkeep:
    """See the module. It runs in the event loop that it is started in."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins."""
        parts = self._parts
        for work in (parts.inbox.run(), parts.presence.run(), self._tick(), self._look()):
            self._spawn(work)
        if parts.late is not None:
            self._spawn(parts.late.run())
        if parts.reach is not None:
            self._spawn(parts.reach.run())

    async def stop(self) -> None:
        """Ends all of it."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _tick(self) -> None:
        parts = self._parts
        while True:
            try:
                parts.presence.expire()
                parts.relays.look()
                parts.deciders.tell(m.Tick())
            except Exception as error:
                # Without the next turn no job would ever be late.
                logger.error("a turn of the customer failed", exc_info=error)
            busy = parts.deciders.dispatcher.open > 0
            warmed = not busy and parts.presence.warm_one()
            await asyncio.sleep(TICK_S if busy else 0 if warmed else IDLE_TICK_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._parts.inbox.look()
                await self._parts.presence.complete()
            except Exception as error:
                logger.error("a look at the relays failed", exc_info=error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        task.add_done_callback(report)
