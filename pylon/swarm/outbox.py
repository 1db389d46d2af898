"""Publications side by side, a bounded number at once, made ready a few in each turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from pylon import log

logger = log.get("swarm")

# Sealing and signing take a fraction of a millisecond each; the rest of the program gets its turn in between.
READY_AT_ONCE = 8

type Work = Coroutine[Any, Any, None]


class Outbox:
    """`put` takes what makes a publication when its turn comes: the work, or None when it is not wanted any more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Callable[[], Work | None]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._turn_is_asked = False
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, make: Callable[[], Work | None], *, first: bool = False) -> None:
        """Adds one; with `first` ahead of all that wait."""
        self._empty.clear()
        if first:
            self._waiting.appendleft(make)
        else:
            self._waiting.append(make)
        self._ask_turn()

    async def close(self, *, within: float) -> None:
        """Lets what is there go out for so many seconds, and drops the rest."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), within)
        self._waiting.clear()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ask_turn(self) -> None:
        if not self._turn_is_asked and len(self._running) < self._limit:
            self._turn_is_asked = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_asked = False
        loop = asyncio.get_running_loop()
        for _ in range(min(READY_AT_ONCE, len(self._waiting), self._limit - len(self._running))):
            work = self._waiting.popleft()()
            if work is not None:
                # Begun at once: most of what it has to do it does before it first waits.
                task = asyncio.Task(work, loop=loop, name="swarm publication", eager_start=True)
                self._running.add(task)
                task.add_done_callback(self._done)
        self._after()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a publication failed", error=repr(error))
        self._after()

    def _after(self) -> None:
        if self._waiting:
            self._ask_turn()
        elif not self._running:
            self._empty.set()
