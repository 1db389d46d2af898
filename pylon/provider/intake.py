"""From the relays to the queue: requests are read, admitted and journaled; cancellations are passed on."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

from pylon import log
from pylon.clock import Clock
from pylon.errors import MalformedError
from pylon.jobs.cancel import parse_cancel
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.kinds import DELETION
from pylon.jobs.request import parse_request
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.nostr.pool_subscription import PoolSubscription, Received
from pylon.provider.admission import Accept, Load, Refuse, admit, is_heard
from pylon.provider.journal import Journal
from pylon.provider.open_cancels import OpenCancels
from pylon.provider.outbox import Letter, Outbox
from pylon.provider.queue import Job
from pylon.provider.regulars import Regulars
from pylon.provider.replies import Replies
from pylon.provider.rows import JobState, Pending
from pylon.provider.runner import Runner
from pylon.provider.settings import ProviderSettings
from pylon.provider.settlement import Settlement
from pylon.provider.till import Till

logger = log.get("provider")

BATCH = 256
# How far back stored requests are asked for: the longest that one without a deadline is valid, and clock skew.
LOOK_BACK_S = 900


class Intake:
    """`load` tells how things stand for one customer, when these jobs go before it."""

    def __init__(
        self,
        provider: str,
        keys: ConversationKeys,
        pool: RelayPool,
        journal: Journal,
        settlement: Settlement,
        till: Till | None,
        runner: Runner,
        replies: Replies,
        outbox: Outbox,
        settings: ProviderSettings,
        clock: Clock,
        load: Callable[[str, Sequence[Job]], Load],
        cannot_write: Callable[[], None],
    ) -> None:
        self._provider = provider
        self._keys = keys
        self._pool = pool
        self._journal = journal
        self._settlement = settlement
        self._till = till
        self._runner = runner
        self._replies = replies
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._load = load
        self._cannot_write = cannot_write
        self._regulars = Regulars()
        self._open_cancels = OpenCancels(pool, self._is_here, self._cancel)
        self._subscription: PoolSubscription | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, customers: Iterable[str] = ()) -> None:
        """Begins to listen. These had jobs taken on before, the last of them latest."""
        self._regulars.add(customers)
        self._subscription = self._pool.subscribe(self._filters, name="jobs")
        self._task = asyncio.create_task(self._run(self._subscription), name="intake")
        self._open_cancels.start()

    async def close(self) -> None:
        """Stops listening."""
        await self._open_cancels.close()
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
        refused: list[tuple[Received, Callable[[], None]]] = []
        for received in batch:
            if received.event.kind == DELETION:
                continue
            found = self._judge(received, queued)
            if isinstance(found, Job):
                queued.append(found)
            elif found is not None:
                refused.append((received, found))
        if len(queued) == 1:
            # The usual case of a quiet node, and a task costs more than the call.
            await _alone(self._take_on(queued[0], live=live))
        else:
            # Group commit makes one disk flush of them.
            await asyncio.gather(*(_alone(self._take_on(job, live=live)) for job in queued))
        if refused:
            await _alone(self._refuse(refused, live=live))
        for received in batch:
            if received.event.kind == DELETION:
                await self._cancel(received.event)

    async def _take_on(self, job: Job, *, live: bool) -> None:
        try:
            await self._write(job, live=live)
        except sqlite3.Error:
            self._cannot_write()
            if live:
                # Whoever hears nothing waits.
                request = job.request
                self._replies.refuse(
                    request.customer, request.id, request.private, job.relay, ErrorCode.PAUSED, "disk"
                )
            raise

    async def _write(self, job: Job, *, live: bool) -> None:
        decision = await self._settlement.take(job)
        if decision is None:
            # Taken on before: by an earlier process, or so long ago that the relays' copies are new again.
            known = await self._journal.known([job.id])
            if live:
                self._repeat(job.relay, known.get(job.id))
            return
        self._regulars.add((job.request.customer,))
        if not job.request.private:
            self._open_cancels.add(job.id)
        if self._till is None:
            self._runner.add(job)
        else:
            await self._till.handle(job, decision)

    async def _refuse(self, refused: Sequence[tuple[Received, Callable[[], None]]], *, live: bool) -> None:
        # What was taken on before is answered as it was then, whatever would be said today.
        known = await self._journal.known(received.event.id for received, _ in refused)
        for received, say in refused:
            if received.event.id not in known:
                say()
            elif live:
                self._repeat(received.relay, known[received.event.id])

    def _repeat(self, relay: str, result: Event | None) -> None:
        # The customer asks again: it gets the same answer, and the work is not done twice.
        if result is not None:
            self._outbox.put(Letter(result, relay, give_up_at=self._clock.wall() + 60))

    def _judge(self, received: Received, ahead: Sequence[Job]) -> Job | Callable[[], None] | None:
        """The admitted job, or what says no; None for what is passed over."""
        event = received.event
        if not is_heard(event.pubkey, tuple(event.tag_values("p")), self._settings, provider=self._provider):
            return None
        try:
            request = parse_request(received.event, self._keys)
        except RequestError as error:
            return self._refusal(received, error)
        load = self._load(request.customer, ahead)
        now = self._clock.wall()
        verdict = admit(request, self._settings, load, provider=self._provider, now=now)
        match verdict:
            case Accept():
                trusted = request.customer in self._settings.trusted
                return Job(request, received.event, verdict, now, received.relay, trusted)
            case Refuse(code, reason):
                return partial(
                    self._say_no, request.customer, request.id, request.private, received.relay, code, reason
                )
            case _:
                return None

    def restore(self, pending: Pending) -> Job | None:
        """A job that the journal held when the process ended, or None when it can no longer be read or run."""
        try:
            request = parse_request(pending.event, self._keys)
        except RequestError:
            return None
        load = self._load(request.customer, ())
        room = Load(load.models, schemas=load.schemas)
        verdict = admit(request, self._settings, room, provider=self._provider, now=self._clock.wall())
        if not isinstance(verdict, Accept):
            return None
        if not request.private:
            self._open_cancels.add(request.id)
        trusted = request.customer in self._settings.trusted
        again = pending.state is JobState.QUEUED
        return Job(request, pending.event, verdict, pending.received_at, pending.relay, trusted, pending.sent, again)

    def _is_here(self, job_id: str) -> bool:
        if job_id in self._runner.running or self._runner.queue.get(job_id) is not None:
            return True
        return self._till is not None and self._till.has(job_id)

    def _refusal(self, received: Received, error: RequestError) -> Callable[[], None] | None:
        event = received.event
        # Silence for what names nobody: others read it too.
        if self._provider not in event.tag_values("p"):
            return None
        private = any(tag[0] == "encrypted" for tag in event.tags)
        return partial(self._say_no, event.pubkey, event.id, private, received.relay, error.code, str(error))

    def _say_no(self, customer: str, id_: str, private: bool, relay: str, code: ErrorCode, reason: str) -> None:
        if code is ErrorCode.MALFORMED and not (customer in self._settings.trusted or customer in self._regulars):
            # A stranger who sends noise gets none back. Asked last, when what came along was taken on.
            logger.debug("malformed request", id=id_, reason=reason)
            return
        logger.info("refused", job=id_, customer=customer, code=code.value)
        self._replies.refuse(customer, id_, private, relay, code, reason)

    async def _cancel(self, event: Event) -> None:
        try:
            cancellation = parse_cancel(event)
        except MalformedError:
            return
        for job_id in cancellation.requests:
            await _alone(self._let_go(job_id, cancellation.customer))

    async def _let_go(self, job_id: str, customer: str) -> None:
        # The runner after the till: a job that is paid for at this moment is with it by then.
        if self._till is not None:
            await self._till.cancel(job_id, customer)
        await self._runner.cancel(job_id, customer)


async def _alone(part: Awaitable[None]) -> None:
    # What fails takes nothing along that came in the same batch.
    try:
        await part
    except Exception:
        logger.exception("a part of a batch of requests failed")
