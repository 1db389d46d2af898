"""From the relays to the queue: requests are read, admitted and journaled; cancellations are passed on."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from pylon import log
from pylon.clock import Clock
from pylon.errors import MalformedError
from pylon.jobs.cancel import parse_cancel
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.kinds import DELETION
from pylon.jobs.request import ReceivedRequest, parse_request
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import PoolSubscription, Received, RelayPool
from pylon.provider.admission import Accept, Load, Refuse, admit
from pylon.provider.journal import Journal
from pylon.provider.outbox import Letter, Outbox
from pylon.provider.queue import Job
from pylon.provider.replies import Replies
from pylon.provider.runner import Runner
from pylon.provider.settings import ProviderSettings
from pylon.provider.settlement import Settlement
from pylon.provider.till import Till

logger = log.get("provider")

BATCH = 256
# How far back stored requests are asked for: the longest that one without a deadline is valid, and clock skew.
LOOK_BACK_S = 900


class Intake:
    """`load` tells how things stand for one customer."""

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
        load: Callable[[str], Load],
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
        self._subscription: PoolSubscription | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to listen."""
        self._subscription = self._pool.subscribe(self._filters, name="jobs")
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
        requests = [item for item in batch if item.event.kind != DELETION]
        known = await self._journal.known(item.event.id for item in requests) if requests else {}
        queued: list[Job] = []
        for received in requests:
            if received.event.id in known:
                if live:
                    self._repeat(received, known[received.event.id])
            elif (job := self._admit(received, queued)) is not None:
                queued.append(job)
        if len(queued) == 1:
            # The usual case of a quiet node, and a task costs more than the call.
            await self._write(queued[0])
        else:
            # Group commit makes one disk flush of them.
            await asyncio.gather(*map(self._write, queued))
        for received in batch:
            if received.event.kind == DELETION:
                await self._cancel(received.event)

    async def _write(self, job: Job) -> None:
        decision = await self._settlement.take(job)
        if self._till is None:
            self._runner.add(job)
        else:
            await self._till.handle(job, decision)

    def _repeat(self, received: Received, result: Event | None) -> None:
        # The customer asks again: it gets the same answer, and the work is not done twice.
        if result is not None:
            self._outbox.put(Letter(result, received.relay, give_up_at=self._clock.wall() + 60))

    def _admit(self, received: Received, ahead: Sequence[Job]) -> Job | None:
        event = received.event
        try:
            request = parse_request(event, self._keys)
        except RequestError as error:
            self._refuse_unread(received, error)
            return None
        load = self._load(request.customer)
        if ahead:
            same = sum(1 for job in ahead if job.request.customer == request.customer)
            load = replace(load, waiting=load.waiting + len(ahead), of_customer=load.of_customer + same)
        return self._decide(request, received, load)

    def _decide(self, request: ReceivedRequest, received: Received, load: Load) -> Job | None:
        now = self._clock.wall()
        verdict = admit(request, self._settings, load, provider=self._provider, now=now)
        match verdict:
            case Accept():
                trusted = request.customer in self._settings.trusted
                return Job(request, received.event, verdict, now, received.relay, trusted)
            case Refuse(code, reason):
                logger.info("refused", job=request.id, customer=request.customer, code=code.value)
                self._replies.refuse(request.customer, request.id, request.private, received.relay, code, reason)
            case _:
                pass
        return None

    def restore(self, event: Event, relay: str, received_at: float) -> Job | None:
        """A job that the journal held when the process ended, or None when it can no longer be read or run."""
        try:
            request = parse_request(event, self._keys)
        except RequestError:
            return None
        load = self._load(request.customer)
        room = Load(load.models, schemas=load.schemas)
        verdict = admit(request, self._settings, room, provider=self._provider, now=self._clock.wall())
        if not isinstance(verdict, Accept):
            return None
        return Job(request, event, verdict, received_at, relay, request.customer in self._settings.trusted)

    def _refuse_unread(self, received: Received, error: RequestError) -> None:
        event = received.event
        stranger = event.pubkey not in self._settings.trusted
        # Silence for what is malformed and from a stranger, and for what is not addressed to us.
        if event.pubkey in self._settings.blocked or event.tag("p") != self._provider:
            return
        if stranger and (self._settings.only_trusted or error.code is ErrorCode.MALFORMED):
            logger.debug("malformed request", id=event.id, reason=str(error))
            return
        private = any(tag[0] == "encrypted" for tag in event.tags)
        self._replies.refuse(event.pubkey, event.id, private, received.relay, error.code, str(error))

    async def _cancel(self, event: Event) -> None:
        try:
            cancellation = parse_cancel(event)
        except MalformedError:
            return
        for job_id in cancellation.requests:
            await self._runner.cancel(job_id, cancellation.customer)
            if self._till is not None:
                await self._till.cancel(job_id, cancellation.customer)
