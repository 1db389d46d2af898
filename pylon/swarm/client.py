"""The customer's edge: prompts in, answers in order out. It decides nothing; `dispatch` and `directory` do.

    async with SwarmClient(pool, secret) as swarm:
        answer = await swarm.complete("How many legs has a spider?", max_tokens=16)
        outcomes = await swarm.map([JobSpec(text) for text in texts])

One subscription brings all answers and one all providers, however many jobs are out. What subscribes never waits
for a publication: publications run beside it, a bounded number at once.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Self

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.errors import MalformedError, RelayError, TooLargeError, UnreachableError
from pylon.jobs import heartbeat as hb
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.kinds import ANNOUNCEMENT, DELETION, FEEDBACK, HEARTBEAT, REQUEST_KINDS, RESULT_KINDS
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.swarm import moves as m
from pylon.swarm.compose import job_of, request_draft
from pylon.swarm.directory import Directory, ProviderUp
from pylon.swarm.dispatch import Dispatcher
from pylon.swarm.flights import Flight, Flights, read_answer
from pylon.swarm.job import Answer, JobFailed, JobSpec, Outcome, Progress, failed
from pylon.swarm.listing import reasons
from pylon.swarm.runs import Run
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.transport import Transport

logger = log.get("swarm")

TICK_S = 0.1
IDLE_TICK_S = 1.0
LOOK_S = 0.5
# Common relay software answers a query with 500 events at most.
CHUNK = 200
BATCH = 256
# Requests made ready in one turn of the event loop; the rest of the program gets its turn in between.
READY_AT_ONCE = 8
WARM_KEYS = 2_000
# How far clocks of other machines may be off.
SKEW_S = 900
ASK_AGAIN_S = 60.0


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
    ) -> None:
        self.settings = settings or SwarmSettings()
        self.directory = Directory(keep=self.settings.allow or frozenset())
        self._pool = pool
        self._secret = secret
        self._keys = keys or ConversationKeys(secret)
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - it spreads load, nothing secret
        self._dispatcher = Dispatcher(self.settings.dispatch, self._rng)
        self._flights = Flights()
        self._runs: dict[int, Run] = {}
        self._details: dict[int, str] = {}
        self._next_slot = 0
        self._outbox: deque[m.Send] = deque()
        self._cancels: deque[tuple[Flight, ...]] = deque()
        self._publishing = 0
        self._turn_asked = False
        self._warm: deque[str] = deque(maxlen=WARM_KEYS)
        self._asked_for: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._presence_caught_up = asyncio.Event()
        self._closing = False

    # --- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to listen for providers and for answers."""
        self._spawn(self._listen(), "swarm answers")
        self._spawn(self._look_around(), "swarm presence")
        self._spawn(self._tick(), "swarm ticker")
        self._spawn(self._ask_after(), "swarm reconciliation")

    async def close(self) -> None:
        """Cancels what is out, and stops. Callers that still wait get `cancelled` slots."""
        self._handle(m.Drop(tuple(self._runs)))
        self._closing = True
        # The cancellations deserve a moment: whoever works for nobody would do so to the end.
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                while self._cancels or self._publishing:
                    await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def caught_up(self, timeout: float = 5.0) -> bool:
        """Waits until a relay has sent the providers it knows; whether one did in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._presence_caught_up.wait(), timeout)
        return self._presence_caught_up.is_set()

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
        deadline_s: float | None = None,
    ) -> list[Outcome]:
        """The outcomes of many questions, in their order: an `Answer` or a `JobFailed` each.

        `on_progress` is called after each outcome. The run ends after `deadline_s` seconds, by default those of
        the settings. Raises `UnreachableError` when nobody could take a single one. Cancelling it cancels the jobs.
        """
        if self._closing:
            raise UnreachableError("this client was closed")
        specs = [JobSpec(job) if isinstance(job, str) else job for job in jobs]
        now = self._clock.monotonic()
        deadline = now + (self.settings.run_s if deadline_s is None else deadline_s)
        run = Run(specs, self._next_slot, on_progress)
        self._next_slot += len(specs)
        added: list[m.Job] = []
        for place, spec in enumerate(specs):
            self._runs[run.first + place] = run
            added.append(job_of(run.first + place, spec, self.settings, deadline=deadline))
        self._handle(m.Add(tuple(added)))
        try:
            await run.done.wait()
        finally:
            if not run.done.is_set():
                self._handle(m.Drop(run.open_slots))
        failures = run.failures()
        if specs and sum(f.reason is m.Failure.NO_PROVIDER for f in failures) == len(specs):
            raise self._unreachable(added[0])
        return run.results()

    def _unreachable(self, job: m.Job) -> UnreachableError:
        seen = f"{self.directory.known} providers heard of, {len(self.directory)} alive"
        why = "".join(f"; {count} {reason}" for reason, count in sorted(reasons(job.need, self.directory).items()))
        return UnreachableError(
            f"no provider can take this: {seen}{why}",
            hint="Start one with `pylon start`, or see `pylon providers` for who is there.",
        )

    # --- the decider's commands -------------------------------------------------------------------------------

    def _handle(self, event: m.SwarmEvent) -> None:
        dropped: dict[tuple[str, int], list[Flight]] = {}
        for command in self._dispatcher.handle(event, self._clock.monotonic()):
            match command:
                case m.Send():
                    self._outbox.append(command)
                case m.CancelAttempt(_, attempt, provider):
                    flight = self._flights.of_attempt(attempt)
                    if flight is not None:
                        dropped.setdefault((provider, flight.kind), []).append(flight)
                case m.Deliver():
                    self._deliver(command)
                case m.GiveUp(slot, failure, code, attempts):
                    self._settle(slot, failed(failure, code, attempts, self._details.pop(slot, "")))
        self._cancels.extend(tuple(flights) for flights in dropped.values())
        if self._outbox or self._cancels:
            self._ask_turn()

    def _deliver(self, command: m.Deliver) -> None:
        flight = self._flights.of_attempt(command.attempt)
        if flight is None or flight.result is None:
            raise AssertionError("an answer was delivered that never came")
        result, now = flight.result, self._clock.monotonic()
        answer = Answer(
            result.text,
            flight.provider,
            result.model.id if result.model is not None else "",
            result.model.sha256 if result.model is not None else "",
            result.usage,
            result.finish,
            result.timing.queue_ms if result.timing is not None else 0,
            result.timing.run_ms if result.timing is not None else 0,
            round(1_000 * (now - flight.sent_at)),
            command.attempts,
            flight.request,
            flight.result_id,
        )
        self._settle(command.slot, answer)

    def _settle(self, slot: int, outcome: Outcome) -> None:
        self._flights.end(slot)
        self._details.pop(slot, None)
        self._runs.pop(slot).settle(slot, outcome, self._dispatcher.in_flight)

    # --- publishing -------------------------------------------------------------------------------------------

    def _ask_turn(self) -> None:
        if not self._turn_asked:
            self._turn_asked = True
            asyncio.get_running_loop().call_soon(self._publish_some)

    def _publish_some(self) -> None:
        self._turn_asked = False
        ready = 0
        while self._cancels and self._publishing < self.settings.publishing:
            self._start_publishing(self._cancel(self._cancels.popleft()))
        while self._outbox and self._publishing < self.settings.publishing and ready < READY_AT_ONCE:
            send = self._outbox.popleft()
            ready += 1
            event = self._request(send)
            if event is not None:
                first = len(self._flights.of_slot(send.slot)) == 1
                self._start_publishing(self._send(send, event, self._shared_relay(send.provider) if first else None))
        if self._outbox and self._publishing < self.settings.publishing:
            self._ask_turn()

    def _start_publishing(self, work: Coroutine[Any, Any, None]) -> None:
        self._publishing += 1
        task = self._spawn(work, "swarm publication")
        task.add_done_callback(self._published)

    def _published(self, _: asyncio.Task[None]) -> None:
        self._publishing -= 1
        if self._outbox or self._cancels:
            self._ask_turn()

    def _request(self, send: m.Send) -> Event | None:
        """The signed request, or None when there is none to send any more."""
        if not self._dispatcher.is_live(send.attempt):
            return None
        listing = self.directory.get(send.provider)
        if listing is None:
            self._handle(m.Refused(send.attempt, ErrorCode.PAUSED))
            return None
        now, wall = self._clock.monotonic(), self._clock.wall()
        try:
            draft = request_draft(
                self._runs[send.slot].spec(send.slot),
                listing,
                self.settings,
                self._keys,
                self._rng,
                created_at=int(wall),
                expires_at=wall + send.expires_at - now,
            )
        except TooLargeError as error:
            self._drop(send, m.Failure.TOO_LARGE, str(error))
            return None
        except RequestError as error:
            if listing.plain:
                # What the open form cannot hold may well go sealed to somebody else.
                self._handle(m.Refused(send.attempt, ErrorCode.UNSUPPORTED_PARAM))
            else:
                self._drop(send, m.Failure.MALFORMED, str(error))
            return None
        except MalformedError:
            self._handle(m.Refused(send.attempt, ErrorCode.UNDECRYPTABLE))
            return None
        event = self._secret.sign(draft)
        self._flights.add(Flight(event.id, event.kind, send.slot, send.attempt, send.provider, event.created_at, now))
        return event

    def _drop(self, send: m.Send, failure: m.Failure, detail: str) -> None:
        self._details[send.slot] = detail
        self._handle(m.Drop((send.slot,), failure))

    async def _send(self, send: m.Send, event: Event, relays: list[str] | None) -> None:
        try:
            await self._pool.publish(event, relays=relays)
        except RelayError as error:
            logger.warning("request not taken", relays=relays or "all", error=str(error))
            self._handle(m.SendFailed(send.attempt))
        else:
            self._flights.went_out(send.attempt, self._clock.monotonic())
            self._handle(m.Published(send.attempt))

    def _shared_relay(self, provider: str) -> list[str] | None:
        """One relay that both sides use; the second try goes to all."""
        listing = self.directory.get(provider)
        theirs = {url.rstrip("/") for url in listing.relays} if listing is not None else set()
        shared = [url for url in self._pool.urls if url.rstrip("/") in theirs]
        return [self._rng.choice(shared)] if shared else None

    async def _cancel(self, flights: tuple[Flight, ...]) -> None:
        requests = tuple(flight.request for flight in flights)
        draft = cancel_draft(requests, flights[0].kind, flights[0].provider, created_at=int(self._clock.wall()))
        try:
            await self._pool.publish(self._secret.sign(draft), timeout=5.0)
        except RelayError as error:
            logger.info("cancellation not taken", error=str(error))

    # --- answers ----------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        subscription = self._pool.subscribe(self._answer_filters, name="answers")
        try:
            while True:
                for received in await subscription.next_batch(BATCH):
                    self._receive(received.event)
        finally:
            await subscription.close()

    def _answer_filters(self) -> tuple[Filter, ...]:
        # Asked anew at each connection: nothing older than what is still out can matter.
        oldest = min((flight.created_at for flight in self._flights), default=int(self._clock.wall()))
        kinds = RESULT_KINDS | {FEEDBACK}
        return (Filter(kinds=kinds, tags={"p": frozenset({self._secret.public})}, since=oldest - SKEW_S),)

    def _receive(self, event: Event) -> None:
        flight = self._flights.asked(event, self._secret.public)
        if flight is None:
            return
        meaning = read_answer(event, flight, self._keys)
        if meaning is not None:
            self._handle(meaning)

    async def _ask_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            silent = self._flights.silent(self._clock.monotonic())
            chunks = [silent[at : at + CHUNK] for at in range(0, len(silent), CHUNK)]
            await asyncio.gather(*(self._ask_after_chunk(chunk) for chunk in chunks))
            await self._ask_for_announcements()

    async def _ask_after_chunk(self, flights: list[Flight]) -> None:
        sought = Filter(
            kinds=RESULT_KINDS | {FEEDBACK},
            authors=frozenset(flight.provider for flight in flights),
            tags={"e": frozenset(flight.request for flight in flights)},
        )
        with suppress(UnreachableError):
            for event in await self._pool.query((sought,), timeout=5.0):
                self._receive(event)

    # --- providers --------------------------------------------------------------------------------------------

    async def _look_around(self) -> None:
        subscription = self._pool.subscribe(self._presence_filters, name="presence")
        caught_up = self._spawn(self._pass_on(subscription.caught_up), "swarm caught up")
        try:
            while True:
                for received in await subscription.next_batch(BATCH):
                    self._observe(received.event)
        finally:
            caught_up.cancel()
            await subscription.close()

    async def _pass_on(self, caught_up: asyncio.Event) -> None:
        await caught_up.wait()
        await self._ask_for_announcements()
        self._presence_caught_up.set()

    def _presence_filters(self) -> tuple[Filter, ...]:
        now = int(self._clock.wall())
        kinds = frozenset(map(str, REQUEST_KINDS))
        return (
            Filter(kinds=frozenset({HEARTBEAT}), since=now - hb.EXPIRY_S - SKEW_S),
            Filter(kinds=frozenset({ANNOUNCEMENT}), tags={"k": kinds}),
            Filter(kinds=frozenset({DELETION}), tags={"k": frozenset({str(ANNOUNCEMENT)})}, since=now - SKEW_S),
        )

    def _observe(self, event: Event) -> None:
        try:
            changes = self.directory.observe(event, self._clock.wall())
        except MalformedError as error:
            logger.debug("presence not understood", kind=event.kind, author=event.pubkey, error=str(error))
            return
        for change in changes:
            if isinstance(change, ProviderUp) and not change.listing.plain:
                self._warm.append(change.listing.provider)
            self._handle(change)

    async def _ask_for_announcements(self) -> None:
        # A relay answers a REQ with a few hundred stored events; those it left out are asked for by author.
        now = self._clock.monotonic()
        again = now - ASK_AGAIN_S
        lacking = [key for key in self.directory.unannounced() if self._asked_for.get(key, again) <= again]
        if len(self._asked_for) > 10 * CHUNK:
            self._asked_for.clear()
        for at in range(0, min(len(lacking), 5 * CHUNK), CHUNK):
            authors = lacking[at : at + CHUNK]
            self._asked_for.update(dict.fromkeys(authors, now))
            sought = Filter(kinds=frozenset({ANNOUNCEMENT}), authors=frozenset(authors))
            with suppress(UnreachableError):
                for event in await self._pool.query((sought,), timeout=5.0):
                    self._observe(event)

    # --- time -------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            busy = self._dispatcher.open > 0
            for change in self.directory.expire(self._clock.wall()):
                self._handle(change)
            self._handle(m.Tick())
            if busy or not self._warm:
                await asyncio.sleep(TICK_S if busy else IDLE_TICK_S)
                continue
            # Agreeing on a key takes a millisecond: better now than when a thousand jobs wait for it.
            with suppress(MalformedError):
                self._keys.get(self._warm.popleft())
            await asyncio.sleep(0)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a part of the customer stopped", task=task.get_name(), error=repr(task.exception()))
