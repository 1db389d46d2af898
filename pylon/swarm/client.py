"""The customer's edge: prompts in, answers in order out. It decides nothing; `dispatch` and `directory` do.

    async with SwarmClient(pool, secret) as swarm:
        answer = await swarm.complete("How many legs has a spider?", max_tokens=16)
        outcomes = await swarm.map([JobSpec(text) for text in texts])

One subscription brings all answers and one all providers, however many jobs are out. What reads them never waits
for a publication: publications run beside it, a bounded number at once.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.errors import MalformedError, MoneyError, RelayError, TooLargeError, UnreachableError
from pylon.jobs.answer import Amount
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.swarm import moves as m
from pylon.swarm.compose import bid_of, bounds_of, job_of, request_draft
from pylon.swarm.directory import Change, Directory, ProviderDown, ProviderUp
from pylon.swarm.dispatch import Dispatcher
from pylon.swarm.flights import Flight, Flights, Meaning, PaymentAsked
from pylon.swarm.inbox import Inbox
from pylon.swarm.job import Answer, JobFailed, JobSpec, Outcome, Progress, answered, failed
from pylon.swarm.listing import Listing, Need, reasons
from pylon.swarm.outbox import Outbox, Work
from pylon.swarm.presence import Presence
from pylon.swarm.purse import Bill, Offer, Purse
from pylon.swarm.reach import Reach
from pylon.swarm.receipts import LateReceipts
from pylon.swarm.runs import Run
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.transport import Transport

logger = log.get("swarm")

TICK_S = 0.1
IDLE_TICK_S = 1.0
LOOK_S = 0.5
# Whoever works for nobody would do so to the end: cancellations deserve a moment at the close.
CLOSE_S = 2.0


class SwarmClient:
    """See the module. The pool is the caller's: started before, closed after."""

    def __init__(
        self,
        pool: Transport,
        secret: SecretKey,
        *,
        settings: SwarmSettings | None = None,
        keys: ConversationKeys | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        purse: Purse | None = None,
        reach: Reach | None = None,
    ) -> None:
        """`reach` finds providers at relays of theirs; without one they are asked at ours alone."""
        self.settings = settings or SwarmSettings()
        self.directory = Directory(keep=self.settings.allow or frozenset())
        self._purse = purse
        self._reach = reach
        if reach is not None:
            reach.reached = self.reconsider
        self._money: set[asyncio.Task[None]] = set()
        self._pool = pool
        self._secret = secret
        self._keys = keys or ConversationKeys(secret)
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - it spreads load, nothing secret
        self._dispatcher = Dispatcher(self.settings.dispatch, self._rng)
        self._flights = Flights()
        self._outbox = Outbox(self.settings.publishing)
        self._presence = Presence(pool, self.directory, self._keys, self._clock, self._changed)
        self._inbox = Inbox(pool, self._flights, self._keys, secret.public, self._clock, self._heard)
        self._runs: dict[int, Run] = {}
        # What a person should read about a slot that is being dropped.
        self._details: dict[int, str] = {}
        self._next_slot = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def start(self) -> None:
        """Begins to listen for providers and for answers."""
        for work in (self._inbox.run(), self._presence.run(), self._tick(), self._look()):
            self._spawn(work)
        if self._purse is not None:
            late = LateReceipts(self._pool, self._purse, self._keys, self._secret.public, self._flights.awaits)
            self._spawn(late.run())
        if self._reach is not None:
            self._spawn(self._reach.run())

    async def close(self) -> None:
        """Cancels what is out, and stops. Callers that still wait get `cancelled` slots."""
        self._closed = True
        self._handle(m.Drop(tuple(self._runs)))
        await self._outbox.close(within=CLOSE_S)
        # A receipt that came is booked, and a payment that began is known of, before the database goes.
        await asyncio.gather(*self._money, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def caught_up(self, timeout: float = 5.0) -> bool:
        """Waits until a relay has sent the providers that it knows; whether one did in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._presence.caught_up.wait(), timeout)
        return self._presence.caught_up.is_set()

    # --- asking -----------------------------------------------------------------------------------------------

    async def complete(self, job: JobSpec | str, **parameters: Any) -> Answer:
        """The answer to one question: a `JobSpec`, or its prompt and any other field of `JobSpec`.

        Raises `JobFailed`, or `UnreachableError` when no provider is alive that could take it.
        """
        spec = JobSpec(job, **parameters) if isinstance(job, str) else job
        outcome = (await self.map([spec], deadline_s=spec.timeout + self.settings.dispatch.patience_s))[0]
        if isinstance(outcome, JobFailed):
            raise outcome
        return outcome

    async def map(
        self,
        jobs: Sequence[JobSpec | str],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_outcome: Callable[[int, Outcome], None] | None = None,
        deadline_s: float | None = None,
    ) -> list[Outcome]:
        """The outcomes of many questions, in their order: an `Answer` or a `JobFailed` each.

        `on_outcome` is called with each place and its outcome as they come, `on_progress` after that. The run ends
        after `deadline_s` seconds, by default those of the settings. Raises `UnreachableError` when nobody could take
        a single one. Cancelling it cancels the jobs.
        """
        if self._closed:
            raise UnreachableError("this client was closed")
        specs = [JobSpec(job) if isinstance(job, str) else job for job in jobs]
        run = Run(specs, self._next_slot, on_progress, on_outcome)
        self._next_slot += len(specs)
        deadline = self._clock.monotonic() + (self.settings.run_s if deadline_s is None else deadline_s)
        added = [job_of(run.first + n, spec, self.settings, deadline=deadline) for n, spec in enumerate(specs)]
        self._runs.update((job.slot, run) for job in added)
        self._handle(m.Add(tuple(added)))
        try:
            await run.done.wait()
        finally:
            if not run.done.is_set():
                self._handle(m.Drop(run.open_slots))
        if specs and all(failure.reason is m.Failure.NO_PROVIDER for failure in run.failures()) and not run.answered:
            raise UnreachableError(
                f"no provider can take this: {self._seen(added[0].need)}",
                hint="Start one with `pylon start`, or see who is there with `pylon providers`.",
            )
        return run.results()

    def _seen(self, need: Need) -> str:
        """Who is there, and why nobody does."""
        why = "".join(f"; {count} {reason}" for reason, count in sorted(reasons(need, self.directory).items()))
        return f"{self.directory.known} providers heard of, {len(self.directory)} alive{why}"

    # --- the decider's commands -------------------------------------------------------------------------------

    def _handle(self, event: m.SwarmEvent) -> None:
        unwanted: dict[tuple[str, int], list[str]] = {}
        nobody: dict[Need, str] = {}
        for command in self._dispatcher.handle(event, self._clock.monotonic()):
            match command:
                case m.Send():
                    self._outbox.put(lambda send=command: self._request(send))  # type: ignore[misc]
                case m.CancelAttempt(_, attempt, provider):
                    flight = self._flights.of_attempt(attempt)
                    if flight is not None:
                        unwanted.setdefault((provider, flight.kind), []).append(flight.request)
                case m.Deliver(slot, attempt, attempts):
                    flight = self._flights.of_attempt(attempt)
                    if flight is not None:
                        self._settle(slot, answered(flight, attempts, self._clock.monotonic()))
                case m.GiveUp(slot, m.Failure.NO_PROVIDER as failure, code, attempts):
                    need = job_of(slot, self._runs[slot].spec(slot), self.settings, deadline=0.0).need
                    if need not in nobody:
                        nobody[need] = self._seen(need)
                    self._settle(slot, failed(failure, code, attempts, nobody[need]))
                case m.GiveUp(slot, failure, code, attempts):
                    self._settle(slot, failed(failure, code, attempts, self._details.pop(slot, "")))
        for (provider, kind), requests in unwanted.items():
            work = self._cancel(tuple(requests), kind, provider)
            self._outbox.put(lambda work=work: work, first=True)  # type: ignore[misc]

    def _settle(self, slot: int, outcome: Outcome) -> None:
        self._flights.end(slot)
        self._runs.pop(slot).settle(slot, outcome, self._dispatcher.in_flight)

    # --- publishing -------------------------------------------------------------------------------------------

    def _request(self, send: m.Send) -> Work | None:
        """The sending of a request; None when it is not wanted any more, or cannot be made."""
        if not self._dispatcher.is_live(send.attempt):
            return None
        listing = self.directory.get(send.provider)
        if listing is None:
            self._handle(m.Refused(send.attempt, ErrorCode.PAUSED))
            return None
        now, wall = self._clock.monotonic(), self._clock.wall()
        spec = self._runs[send.slot].spec(send.slot)
        expires_at = wall + send.expires_at - now
        # The second try of a job goes to all relays.
        relays = None if self._flights.of_slot(send.slot) else self._shared_relay(listing)
        limit = self._pool.event_bytes(relays, most=MAX_EVENT_BYTES)
        try:
            offer = self._offer(spec, listing)
            draft = request_draft(
                spec,
                listing,
                offer,
                self._keys,
                self._rng,
                created_at=int(wall),
                expires_at=expires_at,
                limit=limit,
            )
        except (TooLargeError, RequestError, MalformedError) as error:
            if listing.plain:
                # What the open form cannot hold may well go sealed to somebody else.
                self._handle(m.Refused(send.attempt, ErrorCode.UNSUPPORTED_PARAM))
            else:
                self._details[send.slot] = str(error)
                large = isinstance(error, TooLargeError)
                self._handle(m.Drop((send.slot,), m.Failure.TOO_LARGE if large else m.Failure.MALFORMED))
            return None
        event = self._secret.sign(draft)
        flight = Flight(event.id, event.kind, send.slot, send.attempt, send.provider, event.created_at, now, offer)
        self._flights.add(flight)
        return self._send(send, event, relays)

    async def _send(self, send: m.Send, event: Event, relays: list[str] | None) -> None:
        flight = self._flights.of_attempt(send.attempt)
        if self._purse is not None and flight is not None and flight.offer is not None:
            # Before anybody can charge for it: the receipt must be known for what it is after a crash too.
            await self._purse.ordered(flight.request, flight.kind, flight.offer)
        try:
            await self._pool.publish(event, relays=relays)
        except RelayError as error:
            logger.warning("request not taken", relays=relays or "all", error=str(error))
            self._handle(m.SendFailed(send.attempt))
            return
        self._flights.went_out(send.attempt, self._clock.monotonic())
        self._handle(m.Published(send.attempt))

    def _shared_relay(self, listing: Listing) -> list[str] | None:
        """One relay that both sides use."""
        theirs = {url.rstrip("/") for url in listing.relays}
        shared = [url for url in self._pool.urls if url.rstrip("/") in theirs]
        if self._reach is not None and not shared:
            shared = self._reach.relays_of(listing)
        return [self._rng.choice(shared)] if shared else None

    async def _cancel(self, requests: tuple[str, ...], kind: int, provider: str) -> None:
        draft = cancel_draft(requests, kind, provider, created_at=int(self._clock.wall()))
        try:
            await self._pool.publish(self._secret.sign(draft), timeout=5.0)
        except RelayError as error:
            logger.info("cancellation not taken", error=str(error))

    # --- money ------------------------------------------------------------------------------------------------

    def _offer(self, spec: JobSpec, listing: Listing) -> Offer | None:
        if self._purse is None or listing.plain:
            return None
        bid, jobs_left = bid_of(spec, self.settings), self._dispatcher.open
        return self._purse.offer(listing, bounds_of(spec), bid=bid, jobs_left=jobs_left)

    def _heard(self, event: Event, flight: Flight, meaning: Meaning) -> None:
        """An answer. Where money is at stake it is settled before the dispatcher hears of it."""
        purse = self._purse
        match meaning:
            case PaymentAsked(attempt, amount):
                if purse is None or flight.offer is None or not self._dispatcher.is_live(attempt):
                    # Only what is free was asked for.
                    self._handle(m.Refused(attempt, ErrorCode.BID_TOO_LOW))
                    return
                self._handle(m.Acknowledged(attempt))
                if flight.billed:
                    return
                flight.billed = True
                self._settle_money(self._pay(purse, flight, flight.offer, _bill(event, flight), amount))
            case m.Answered() if purse is not None and flight.offer is not None:
                self._settle_money(self._accept(purse, flight, flight.offer, _bill(event, flight)))
            case _:
                self._handle(meaning)

    async def _pay(self, purse: Purse, flight: Flight, offer: Offer, bill: Bill, amount: Amount | None) -> None:
        try:
            await purse.pay(bill, offer, amount)
        except MoneyError as error:
            logger.warning("nothing was paid", provider=flight.provider, reason=str(error))
            self._handle(m.Refused(flight.attempt, ErrorCode.BID_TOO_LOW))

    async def _accept(self, purse: Purse, flight: Flight, offer: Offer, bill: Bill) -> None:
        if flight.result is None or flight.settled:
            return
        flight.settled = True
        charged = await purse.accept(bill, offer, flight.result)
        if charged is None:
            self._handle(m.Refused(flight.attempt, None))
            return
        flight.paid = charged
        self._handle(m.Answered(flight.attempt))

    def _settle_money(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._money.add(task)
        task.add_done_callback(self._money.discard)
        task.add_done_callback(_report)

    def _changed(self, change: Change) -> None:
        """Something about a provider. What may go to it is for the purse to say."""
        if self._reach is not None:
            if isinstance(change, ProviderDown):
                self._reach.gone(change.provider)
            elif self._reach.holds(change.listing):
                return
        if self._purse is not None and isinstance(change, ProviderUp):
            change = ProviderUp(replace(change.listing, width=self._purse.width(change.listing)))
        self._handle(change)

    def reconsider(self, provider: str) -> None:
        """The purse changed its mind about a provider, or it is known now where it is reached."""
        listing = self.directory.get(provider)
        if listing is not None:
            self._changed(ProviderUp(listing))

    # --- time -------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            self._presence.expire()
            self._handle(m.Tick())
            busy = self._dispatcher.open > 0
            warmed = not busy and self._presence.warm_one()
            await asyncio.sleep(TICK_S if busy else 0 if warmed else IDLE_TICK_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._inbox.look()
            await self._presence.complete()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(_report)


def _bill(event: Event, flight: Flight) -> Bill:
    return Bill(event.pubkey, event.tag("p") or "", flight.request, event.created_at)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a part of the customer stopped", error=repr(error))
