"""Receives requests and cancellations from the relays: requests are journaled and taken on, or refused."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence

from pylon import log
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import DELETION
from pylon.latest import Latest
from pylon.nostr.client.subscriptions import Filters
from pylon.nostr.copies import Copies
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.pool import RelayPool
from pylon.nostr.pool_subscription import PoolSubscription, Received
from pylon.provider.contents import length
from pylon.provider.intake.open_cancels import OpenCancels
from pylon.provider.intake.refusals import Refusals
from pylon.provider.judge import LOOK_BACK_S, Judge
from pylon.provider.payments.settlement import Settlement
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal, taken_back
from pylon.provider.settings import ProviderSettings
from pylon.provider.work.active_jobs import ActiveJobs
from pylon.tasks import Tasks

logger = log.get("provider")

# The most events that are judged together.
BATCH = 256
# The most characters of decrypted jobs in memory at once: a batch of sealed requests may hold a gigabyte.
MOST_OPEN = 4 * 1024 * 1024
# A copy that comes over another relay within so many seconds was sent to both at once. A later one means that the
# customer heard nothing over the first relay, and asks again.
COPY_S = 2.0
# For how many requests, the latest ones, a cancellation that came before the request is remembered.
MOST_EARLY = 10_000


def for_provider(provider: str, settings: ProviderSettings, now: float, since: float = 0.0) -> tuple[Filter, ...]:
    """Filters for requests and cancellations to this public key, and for broadcasts if those are served.

    They ask for nothing from before `since`. Times are Unix seconds.
    """
    # A `since` in the future was written by a clock that was ahead, and would keep all requests out.
    since = max(int(now) - LOOK_BACK_S, int(since) if since <= now else 0)
    kinds = frozenset({*settings.kinds, DELETION})
    targeted = Filter(kinds=kinds, tags={"p": frozenset({provider})}, since=since)
    if not settings.serve_broadcast:
        return (targeted,)
    return (targeted, Filter(kinds=settings.kinds, since=since))


class Intake:
    """`filters` select the events. `cannot_write` is told why a job could not be journaled, and returns the reason
    that its customer is given."""

    def __init__(
        self,
        *,
        pool: RelayPool,
        filters: Filters,
        judge: Judge,
        settlement: Settlement,
        active_jobs: ActiveJobs,
        open_cancels: OpenCancels,
        refusals: Refusals,
        cannot_write: Callable[[sqlite3.Error], str],
    ) -> None:
        self._pool = pool
        self._filters = filters
        self._judge = judge
        self._settlement = settlement
        self._active_jobs = active_jobs
        self._open_cancels = open_cancels
        self._refusals = refusals
        self._cannot_write = cannot_write
        # Pairs of customer and request id. A cancellation can come before its request: over another relay, or because
        # stored events come newest first.
        self._early: Latest[tuple[str, str], None] = Latest(MOST_EARLY)
        self._subscription: PoolSubscription | None = None
        self._tasks = Tasks()

    def start(self) -> None:
        """Starts listening."""
        self._subscription = self._pool.subscribe(self._filters, name="jobs", copies=Copies(COPY_S))
        self._tasks.start(self._run(self._subscription), "intake")

    async def close(self) -> None:
        """Stops listening."""
        if self._subscription is not None:
            await self._subscription.close()
        await self._tasks.close()

    async def _run(self, subscription: PoolSubscription) -> None:
        while True:
            batch = await subscription.next_batch(BATCH)
            try:
                await self._take(batch, live=subscription.caught_up.is_set())
            except Exception:
                # No content of a batch may end the intake.
                logger.exception("a batch of requests failed")

    async def _take(self, batch: Sequence[Received], *, live: bool) -> None:
        queued: list[Job] = []
        opened = 0
        refused: list[Refusal] = []
        for received in batch:
            if received.event.kind == DELETION:
                continue
            try:
                found = self._judged(received, queued)
            except Exception:
                logger.exception("a request could not be judged", request=received.event.id)
                continue
            if isinstance(found, Job):
                queued.append(found)
                opened += length(found)
                if opened >= MOST_OPEN:
                    await self._take_all_on(queued, live=live)
                    queued, opened = [], 0
            elif found is not None:
                refused.append(found)
        await self._take_all_on(queued, live=live)
        if refused:
            await _alone(self._refusals.refuse(refused, live=live))
        for received in batch:
            if received.event.kind == DELETION:
                await _alone(self._take_back(received.event))

    def _judged(self, received: Received, queued: Sequence[Job]) -> Job | Refusal | None:
        found = self._judge.judge(received, queued)
        if not isinstance(found, Job):
            return found
        if (refusal := self._refusals.earlier(found)) is not None:
            return refusal
        return taken_back(found) if (found.request.customer, found.id) in self._early else found

    async def _take_back(self, cancellation: Event) -> None:
        for request in await self._active_jobs.take_back(cancellation):
            self._early.put(request, None)

    async def _take_all_on(self, queued: Sequence[Job], *, live: bool) -> None:
        if len(queued) == 1:
            # The usual case on a quiet node. A task would cost more than the call.
            await _alone(self._take_on(queued[0], live=live))
        else:
            # At once, so that their writes share one flush to disk.
            await asyncio.gather(*(_alone(self._take_on(job, live=live)) for job in queued))

    async def _take_on(self, job: Job, *, live: bool) -> None:
        try:
            decision = await self._settlement.take(job)
        except sqlite3.Error as error:
            reason = self._cannot_write(error)
            if live:
                # A customer that hears nothing would wait.
                await self._refusals.send([Refusal.of(job, ErrorCode.PAUSED, reason)])
            raise
        # From here on the job is in the journal: even if something fails, it may be done and charged after all.
        if decision is None:
            # Taken on before: this is a copy over another relay, from before a restart, or too old to be remembered.
            if live:
                await self._refusals.repeat(job)
            return
        self._open_cancels.add(job)
        await self._active_jobs.take(job, decision)


async def _alone(part: Awaitable[None]) -> None:
    # An error must not affect the other requests of the batch.
    try:
        await part
    except Exception:
        logger.exception("a part of a batch of requests failed")
