"""Tells customers that have heard nothing that their jobs wait, and ends jobs whose deadline passes in the queue."""

import asyncio
from collections.abc import Callable, Coroutine

from pylon.clock import Clock
from pylon.provider.queue import Job, JobQueue
from pylon.provider.replies import Replies
from pylon.provider.work.unheard import Unheard
from pylon.tasks import Tasks

TICK_S = 0.25


class Overdue:
    """A customer hears of its job within `after_s` seconds. `wait_s` estimates the seconds until a job begins, and
    `expire` ends one whose deadline has passed."""

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
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
        await self._ending.close()

    def add(self, job: Job) -> None:
        """Adds a job whose customer has heard nothing yet."""
        self._unheard.add(job, self._clock.monotonic())

    def heard(self, job_id: str) -> None:
        """Notes that its customer has heard of the job, or need not any more."""
        self._unheard.heard(job_id)

    def queued(self, job: Job) -> None:
        """Looks at a job that was added, once it has its place in the queue or has begun."""
        # A customer that learns of a long wait at once can ask an idle provider.
        if self._wait_s(job) >= self._after_s:
            self.say(job)
        self._watch()

    def say(self, job: Job) -> None:
        """Tells the customer of a job how long that waits."""
        self._unheard.heard(job.id)
        self._replies.processing(job.request, job.relay, self._wait_s(job))

    def look(self) -> None:
        """Does what is due now, and sets the timer for the next look."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Deadlines come from events, so they are wall time; how long a customer has waited is monotonic time.
        for job in self._queue.take_expired(self._clock.wall()):
            self._ending.start(self._expire(job), f"job {job.id[:8]} expired")
        for job in self._unheard.due(self._clock.monotonic()):
            self.say(job)
        self._watch()

    def _watch(self) -> None:
        """Sets the timer for when something may be due next. Without jobs there is none: an idle node sleeps."""
        if not self._unheard and not self._queue:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self._next_tick()
        if self._timer is not None and self._timer.when() > due + TICK_S:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(due, self.look)

    def _next_tick(self) -> float:
        # Only a queued job can expire at any moment. Without any, nothing is due before the first feedback.
        due = None if self._queue else self._unheard.next_at()
        return TICK_S if due is None else max(TICK_S, due - self._clock.monotonic())
