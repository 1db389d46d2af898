"""Cancellations by customers that know NIP-90 alone: a kind 5 that names the request and not the provider.

They are asked for by the ids of open-form jobs that are in hand for a while, and of no others: most jobs are over
before it would be worth a subscription, and customers of the private form name the provider.
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

# Looked at so often while there is such a job; one that is over by the first time is never asked for.
LOOK_S = 1.0
# So many ids are asked for at most, the newest: relays limit what a filter may hold.
MOST = 100


class OpenCancels:
    """`is_here` says whether a job is still in hand; `take` is given what came."""

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
        # Held while a cancellation is taken: cut off in between, its job would be neither run nor let go.
        self._turn = asyncio.Lock()
        self._tasks = Tasks()

    def start(self) -> None:
        """Begins to look."""
        self._tasks.start(forever(self._watch, "open cancellations"), "open cancellations")

    async def close(self) -> None:
        """Stops."""
        await self._tasks.close()

    def add(self, job: Job) -> None:
        """A job was taken on. One of the private form is not looked for."""
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
        # What is over may be asked for a while longer: only what is new, or that nothing is left, is worth a message.
        if (here and here <= self._asked) or here == self._asked:
            return
        before, self._asked = self._reader, here
        self._reader = self._tasks.start(self._read(here), "open cancellations read") if here else None
        if before is not None:
            async with self._turn:
                # What this one has not taken, the next one is given anew.
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
