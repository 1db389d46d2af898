"""The queue of a customer's publications: so many at once, and a few made ready in each turn of the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from pylon import log
from pylon.tasks import Tasks

logger = log.get("swarm")

# How many are made in one turn. Sealing and signing take a fraction of a millisecond each, and the rest of the
# program runs in between.
READY_AT_ONCE = 8

type Work = Coroutine[Any, Any, None]


class Outbox:
    """Runs at most `limit` publications at once.

    `put` takes a function that is called when a place is free, so that nothing is sealed or signed long before it is
    sent. The function returns the publication's coroutine, or None when that is not wanted any more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Callable[[], Work | None]] = deque()
        self._sending = Tasks("a publication failed", self._after)
        self._turn_is_asked = False
        # `close` waits for this.
        self._empty: asyncio.Event | None = None

    def put(self, make: Callable[[], Work | None], *, first: bool = False) -> None:
        """Adds one; with `first` ahead of all that wait."""
        if first:
            self._waiting.appendleft(make)
        else:
            self._waiting.append(make)
        self._ask_turn()

    async def close(self, *, within: float) -> None:
        """Goes on sending what is queued for `within` seconds, then cancels and drops the rest."""
        self._empty = asyncio.Event()
        self._after()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), within)
        finally:
            self._waiting.clear()
            await self._sending.close()

    def _ask_turn(self) -> None:
        if not self._turn_is_asked and len(self._sending) < self._limit:
            self._turn_is_asked = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_asked = False
        for _ in range(min(READY_AT_ONCE, len(self._waiting), self._limit - len(self._sending))):
            try:
                work = self._waiting.popleft()()
            except Exception as error:
                # A fault of ours, which must not hold up the others.
                logger.error("a publication could not be created", exc_info=error)
                continue
            if work is not None:
                self._sending.begin(work, "publication")
        self._after()

    def _after(self) -> None:
        if self._waiting:
            self._ask_turn()
        elif self._empty is not None and not self._sending:
            self._empty.set()
