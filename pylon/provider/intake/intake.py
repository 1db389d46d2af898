"""From the relays to the journal: requests are judged and taken on, or refused; cancellations are passed on."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence

from pylon import log
from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import DELETION
from pylon.nostr.copies import Copies
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.pool import RelayPool
from pylon.nostr.pool_subscription import PoolSubscription, Received
from pylon.provider.contents import length
from pylon.provider.intake.early import Early
from pylon.provider.intake.open_cancels import OpenCancels
from pylon.provider.intake.refused import Refused
from pylon.provider.intake.regulars import Regulars
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.outbox import Outbox
from pylon.provider.payments.settlement import Settlement
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal, taken_back
from pylon.provider.refusal_budget import RefusalBudget, RefusalLimits
from pylon.provider.replies import Replies
from pylon.provider.settings import ProviderSettings
from pylon.provider.work.in_hand import InHand
from pylon.provider.work.results import Results

logger = log.get("provider")

BATCH = 256
# So much of what its jobs say is open at once, in characters: a batch of sealed requests may say a gigabyte.
MOST_OPEN = 4 * 1024 * 1024
# How far back stored requests are asked for: the longest that one without a deadline is valid, and clock skew.
LOOK_BACK_S = 900
# Customers whom no word reached over one relay ask over another by then; what comes sooner was sent to both at once.
COPY_S = 2.0
# How often a key is answered once more: as often as a map over a relay that delivers nothing may need it.
AGAIN = RefusalLimits(burst=1_000.0, per_s=20.0, total_burst=5_000.0, total_per_s=200.0)


class Intake:
    """`provider` is our public key; `cannot_write` hears that something could not be written down."""

    def __init__(
        self,
        *,
        provider: str,
        settings: ProviderSettings,
        pool: RelayPool,
        judge: Judge,
        journal: Journal,
        settlement: Settlement,
        in_hand: InHand,
        open_cancels: OpenCancels,
        results: Results,
        replies: Replies,
        refused: Refused,
        outbox: Outbox,
        clock: Clock,
        cannot_write: Callable[[], None],
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._pool = pool
        self._judge = judge
        self._journal = journal
        self._settlement = settlement
        self._in_hand = in_hand
        self._open_cancels = open_cancels
        self._results = results
        self._replies = replies
        self._refused = refused
        self._outbox = outbox
        self._again = RefusalBudget(AGAIN)
        self._clock = clock
        self._cannot_write = cannot_write
        self._regulars = Regulars()
        self._early = Early()
        self._subscription: PoolSubscription | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, customers: Iterable[str] = ()) -> None:
        """Begins to listen. These had jobs taken on before, the last of them latest."""
        self._regulars.add(customers)
        self._subscription = self._pool.subscribe(self._filters, name="jobs", copies=Copies(COPY_S))
        self._task = asyncio.create_task(self._run(self._subscription), name="intake")

    async def close(self) -> None:
        """Stops listening."""
        if self._subscription is not None:
            await self._subscription.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _filters(self) -> tuple[Filter, ...]:
        kinds = frozenset({*self._settings.kinds, DELETION})
        since = int(self._clock.wall()) - LOOK_BACK_S
        targeted = Filter(kinds=kinds, tags={"p": frozenset({self._provider})}, since=since)
        if not self._settings.serve_broadcast:
            return (targeted,)
        return (targeted, Filter(kinds=self._settings.kinds, since=since))

    async def _run(self, subscription: PoolSubscription) -> None:
        while True:
            batch = await subscription.next_batch(BATCH)
            try:
                await self._take(batch, live=subscription.caught_up.is_set())
            except Exception:
                # Nothing that one batch holds may end the intake.
                logger.exception("a batch of requests failed")

    async def _take(self, batch: Sequence[Received], *, live: bool) -> None:
        queued: list[Job] = []
        opened = 0
        refused: list[Refusal] = []
        for received in batch:
            if received.event.kind == DELETION:
                continue
            found = self._judge.judge(received, queued)
            if isinstance(found, Job):
                found = self._still_wanted(found)
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
            await _alone(self._refuse(refused, live=live))
        for received in batch:
            if received.event.kind == DELETION:
                self._early.add(await self._in_hand.take_back(received.event))

    def _still_wanted(self, job: Job) -> Job | Refusal | None:
        if (code := self._refused.code(job.id)) is not None:
            # There would be room for it by now, and its customer has gone elsewhere.
            return Refusal.of(job, code, "it was refused before: a new request may do better")
        return taken_back(job) if (job.request.customer, job.id) in self._early else job

    async def _take_all_on(self, queued: Sequence[Job], *, live: bool) -> None:
        if len(queued) == 1:
            # The usual case of a quiet node, and a task costs more than the call.
            await _alone(self._take_on(queued[0], live=live))
        else:
            # Group commit makes one disk flush of them.
            await asyncio.gather(*(_alone(self._take_on(job, live=live)) for job in queued))

    async def _take_on(self, job: Job, *, live: bool) -> None:
        try:
            await self._write(job, live=live)
        except sqlite3.Error:
            self._cannot_write()
            if live:
                # Whoever hears nothing waits.
                await self._say_no([Refusal.of(job, ErrorCode.PAUSED, "disk")])
            raise

    async def _write(self, job: Job, *, live: bool) -> None:
        decision = await self._settlement.take(job)
        if decision is None:
            # Taken on before: a copy over another relay, or by an earlier process, or so long ago that the relays'
            # copies are new again.
            known = await self._journal.known([job.id])
            if live:
                self._repeat(job.request.customer, job.id, job.relay, known.get(job.id))
            return
        self._regulars.add((job.request.customer,))
        self._open_cancels.add(job)
        await self._in_hand.take(job, decision)

    async def _refuse(self, refused: Sequence[Refusal], *, live: bool) -> None:
        # What was taken on before is answered as it was then, whatever would be said today.
        known = await self._journal.known(refusal.id for refusal in refused)
        unsaid: list[Refusal] = []
        for refusal in refused:
            if refusal.id in known:
                if live:
                    self._repeat(refusal.customer, refusal.id, refusal.relay, known[refusal.id])
            elif live or self._refused.code(refusal.id) is None:
                unsaid.append(refusal)
        await self._say_no(unsaid)

    def _repeat(self, customer: str, job_id: str, relay: str, result: Event | None) -> None:
        # The customer asks again: it gets the same answer, where it asks, and the work is not done twice.
        if not (customer in self._settings.trusted or self._again.allow(customer, self._clock.monotonic())):
            return
        if result is not None:
            self._results.repeat(result, relay)
        elif self._in_hand.has(job_id):
            self._outbox.also(job_id, relay)
            self._in_hand.say_again(job_id)

    async def _say_no(self, refused: Sequence[Refusal]) -> None:
        words = [(refusal, word) for refusal in refused if (word := self._word(refusal)) is not None]
        if words:
            # First: what was said has to hold, whatever becomes of this process.
            await self._refused.remember([(refusal.id, refusal.code) for refusal, _ in words])
        for refusal, word in words:
            self._replies.say(word, refusal.relay)

    def _word(self, refusal: Refusal) -> Event | None:
        customer, code = refusal.customer, refusal.code
        if code is ErrorCode.MALFORMED and not (customer in self._settings.trusted or customer in self._regulars):
            # A stranger who sends noise gets none back. Asked last, when what came along was taken on.
            logger.debug("malformed request", id=refusal.id, reason=refusal.reason)
            return None
        word = self._replies.refusal(refusal)
        if word is not None:
            # Noise has no more of the log than it has answers.
            logger.info("refused", job=refusal.id, customer=customer, code=code.value)
        return word


async def _alone(part: Awaitable[None]) -> None:
    # What fails takes nothing along that came in the same batch.
    try:
        await part
    except Exception:
        logger.exception("a part of a batch of requests failed")
