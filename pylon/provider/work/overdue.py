"""What is due of jobs while they wait: a word to whoever has heard nothing, or their end when the deadline passed."""

import asyncio
from collections.abc import Callable, Coroutine

from pylon.clock import Clock
from pylon.provider.queue import Job, JobQueue
from pylon.provider.replies import Replies
from pylon.provider.work.unheard import Unheard
from pylon.tasks import Tasks

TICK_S = 0.25


class Overdue:
    """`wait_s` says in how many seconds a job begins, `expire` ends one that waited in the queue for too long."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        replies: Replies,
        clock: Clock,
        after_s: float,
        wait_s: Callable[[Job], float],
        expire: Callable[[Job], Coroutine[None, None, None]],
    ) -> None:
        self._queue = queue
        self._replies = replies
        self._clock = clock
        self._after_s = after_s
        self._wait_s = wait_s
        self._expire = expire
        self._unheard = Unheard(after_s)
        self._timer: asyncio.TimerHandle | None = None
        self._ending = Tasks()

    async def close(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
        await self._ending.close()

    def add(self, job: Job) -> None:
        """A job came, and its customer has heard nothing yet."""
        self._unheard.add(job, self._clock.monotonic())

    def heard(self, job_id: str) -> None:
        """Its customer hears of it, or need not any more."""
        self._unheard.heard(job_id)

    def queued(self, job: Job) -> None:
        """A job that came has its place in the queue, or has begun."""
        # Whoever learns of a long wait at once can ask somebody idle.
        if self._wait_s(job) >= self._after_s:
            self.say(job)
        self._watch()

    def say(self, job: Job) -> None:
        """Tells its customer how long it waits."""
        self._unheard.heard(job.id)
        self._replies.processing(job.request, job.relay, self._wait_s(job))

    def _watch(self) -> None:
        """Looks again when something may be due. Nothing is while nothing is here: an idle node sleeps."""
        if not self._unheard and not self._queue:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self._next_tick()
        if self._timer is not None and self._timer.when() > due + TICK_S:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        # Deadlines are in events, and so by the wall; how long somebody has waited here is not.
        for job in self._queue.take_expired(self._clock.wall()):
            self._ending.start(self._expire(job), f"job {job.id[:8]} expired")
        for job in self._unheard.due(self._clock.monotonic()):
            self.say(job)
        self._watch()

    def _next_tick(self) -> float:
        # Only what waits in the queue can expire at any moment; for what runs, the first reminder is what is due.
        due = None if self._queue else self._unheard.next_at()
        return TICK_S if due is None else max(TICK_S, due - self._clock.monotonic())
