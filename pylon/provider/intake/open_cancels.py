"""Cancellations that name a request but not the provider, as plain NIP-90 customers send them (kind 5, NIP-09).

They are subscribed to by request id, and only for open jobs that have been active for a while. Most jobs end before
a subscription would be worth it, and customers of the private form name the provider.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from pylon.forever import forever
from pylon.jobs.kinds import DELETION
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.pool import RelayPool
from pylon.provider.queue import Job
from pylon.tasks import Tasks

# The seconds between two looks while there are such jobs. One that ends before the first look is never subscribed to.
LOOK_S = 1.0
# The most ids in the subscription, of the newest jobs: relays limit the size of a filter.
MOST = 100


class OpenCancels:
    """`is_here` says whether a job is still active; `take` is given each cancellation."""

    def __init__(
        self, pool: RelayPool, is_here: Callable[[str], bool], take: Callable[[Event], Awaitable[object]]
    ) -> None:
        self._pool = pool
        self._is_here = is_here
        self._take = take
        self._jobs: OrderedDict[str, None] = OrderedDict()
        self._added = asyncio.Event()
        self._asked: frozenset[str] = frozenset()
        self._reader: asyncio.Task[None] | None = None
        # Held while a cancellation is handled: if that was cut off, its job would be neither run nor cancelled.
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    def start(self) -> None:
        """Starts looking."""
        self._tasks.start(forever(self._watch, "open cancellations"), "open cancellations")

    async def close(self) -> None:
        """Stops looking."""
        await self._tasks.close()

    def add(self, job: Job) -> None:
        """Adds a job that was taken on. Jobs of the private form are ignored."""
        if job.request.private:
            return
        self._jobs[job.id] = None
        if len(self._jobs) > MOST:
            self._jobs.popitem(last=False)
        self._added.set()

    async def _watch(self) -> None:
        if not self._jobs:
            self._added.clear()
            await self._added.wait()
        await asyncio.sleep(LOOK_S)
        for job_id in [job_id for job_id in self._jobs if not self._is_here(job_id)]:
            del self._jobs[job_id]
        here = frozenset(self._jobs)
        # Subscribed again only for new jobs, or when none is left: ids of ended jobs do no harm.
        if (here and here <= self._asked) or here == self._asked:
            return
        before, self._asked = self._reader, here
        self._reader = self._tasks.start(self._read(here), "open cancellations read") if here else None
        if before is not None:
            async with self._turn:
                # Cancellations that it has not handled yet are delivered to the next subscription again.
                before.cancel()
            await asyncio.wait({before})

    async def _read(self, ids: frozenset[str]) -> None:
        asked = Filter(kinds=frozenset({DELETION}), tags={"e": ids})
        subscription = self._pool.subscribe(lambda: (asked,), name="cancels")
        try:
            async for received in subscription:
                async with self._turn:
                    await self._take(received.event)
        finally:
            await subscription.close()
