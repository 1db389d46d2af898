"""The customer's edge: prompts in, answers in order out. It decides nothing; `coordinator` and `directory` do.

    async with SwarmClient(pool, secret) as swarm:
        answer = await swarm.complete("How many legs has a spider?", max_tokens=16)
        outcomes = await swarm.map([JobSpec(text) for text in texts])

One subscription brings all answers and one all providers, however many jobs are out. What reads them never waits
for a publication: publications run beside it, a bounded number at once.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from pylon.clock import Clock, SystemClock
from pylon.errors import UnreachableError
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.swarm import check_moves as c
from pylon.swarm import moves as m
from pylon.swarm.checks import Checks
from pylon.swarm.compose import job_of
from pylon.swarm.coordinator import Command, Coordinator, Fail, Fill, Unfill
from pylon.swarm.directory import Change, Directory, ProviderDown, ProviderUp
from pylon.swarm.dispatch import Dispatcher
from pylon.swarm.flights import Flight, Flights, Meaning, Partial, PaymentAsked
from pylon.swarm.inbox import Inbox
from pylon.swarm.job import Answer, JobSpec, Outcome, Progress, answered, failed
from pylon.swarm.journal import Kept, RunJournal
from pylon.swarm.listing import Listing, Need, reasons
from pylon.swarm.money import Settling, report
from pylon.swarm.outbox import Outbox
from pylon.swarm.presence import Presence
from pylon.swarm.purse import Purse
from pylon.swarm.reach import Reach
from pylon.swarm.receipts import LateReceipts
from pylon.swarm.reputation import Reputation
from pylon.swarm.requests import Requests
from pylon.swarm.rescoring import SCORE_S, Rescorer
from pylon.swarm.runs import Run
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.transport import Transport
from pylon.swarm.verification import Verdict, judge

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
        reputation: Reputation | None = None,
        rescorer: Rescorer | None = None,
        reach: Reach | None = None,
    ) -> None:
        """`reach` finds providers at relays of theirs; without one they are asked at ours alone."""
        self.settings = settings or SwarmSettings()
        self.directory = Directory(keep=self.settings.allow or frozenset())
        self.reputation = reputation or Reputation(own=self.settings.own)
        self._purse = purse
        self._rescorer = rescorer
        self._reach = reach
        if reach is not None:
            reach.reached = self.reconsider
        self._clock = clock or SystemClock()
        rng = rng or random.Random()  # noqa: S311 - it spreads load, nothing secret
        keys = keys or ConversationKeys(secret)
        dispatcher = Dispatcher(self.settings.dispatch, rng, pool.urls)
        rules = self.settings.checks
        self._checks = None if rules is None else Checks(rules, self.reputation, rng)
        self._coordinator = Coordinator(dispatcher, self._checks, self.settings.own)
        self._flights = Flights()
        self._outbox = Outbox(self.settings.publishing)
        self._presence = Presence(pool, self.directory, keys, self._clock, self._changed)
        self._inbox = Inbox(pool, self._flights, keys, secret.public, self._clock, self._heard, self._unheard)
        self._late = None if purse is None else LateReceipts(pool, purse, keys, secret.public, self._flights.awaits)
        self._settling = Settling(purse, self._flights, self._tell, self._answered, dispatcher.is_live)
        self._requests = Requests(
            pool, secret, keys, self._clock, rng, self.directory, self._coordinator, self._flights, self._outbox,
            purse, lambda: self.settings, self._tell, self._run_of, self._fault, reach,
        )  # fmt: skip
        self._runs: dict[int, Run] = {}
        # What a person should read about a slot that is being dropped.
        self._details: dict[tuple[int, int | None], str] = {}
        self._scoring: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def start(self) -> None:
        """Begins to listen for providers and for answers."""
        for work in (self._inbox.run(), self._presence.run(), self._tick(), self._look()):
            self._spawn(work)
        if self._late is not None:
            self._spawn(self._late.run())
        if self._reach is not None:
            self._spawn(self._reach.run())

    async def close(self) -> None:
        """Cancels what is out, and stops. Callers that still wait get `cancelled` outcomes."""
        self._closed = True
        for run in list(self._runs.values()):
            self._cancel_run(run)
        await self._outbox.close(within=CLOSE_S)
        await self._settling.close()
        for task in (*self._tasks, *self._scoring):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._scoring, return_exceptions=True)

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

    def change_company(self, *, allow: frozenset[str] | None, own: frozenset[str]) -> None:
        """From now on these alone may be asked (None: anybody), and these are one's own machines."""
        before, self.settings = self.settings.own, replace(self.settings, allow=allow, own=own)
        self._coordinator.own = self.reputation.own = own
        for provider in before ^ own:
            self.reconsider(provider)

    # --- asking -----------------------------------------------------------------------------------------------

    async def complete(self, job: JobSpec | str, **parameters: Any) -> Answer:
        """The answer to one question: a `JobSpec`, or its prompt and any other field of `JobSpec`.

        It goes before the jobs of maps. Raises `JobFailed`, or `UnreachableError` when no provider is alive that
        could take it.
        """
        spec = JobSpec(job, **parameters) if isinstance(job, str) else job
        return await self._one(Run([spec]))

    async def stream(self, job: JobSpec | str, **parameters: Any) -> AsyncGenerator[str | Answer]:
        """The answer to one question while it is made: the whole text so far, again and again, then the `Answer`.

        A text may start anew when its provider is replaced by another. Raises as `complete` does.
        """
        spec = JobSpec(job, **parameters) if isinstance(job, str) else job
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        asking = asyncio.create_task(self._one(Run([replace(spec, stream=True)], partial=pieces.put_nowait)))
        asking.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await asking
        finally:
            asking.cancel()

    async def map(
        self,
        jobs: Sequence[JobSpec | str],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_outcome: Callable[[int, Outcome], None] | None = None,
        deadline_s: float | None = None,
        budget_msat: int | None = None,
        priority: int = 0,
        journal: RunJournal | None = None,
    ) -> list[Outcome]:
        """The outcomes of many questions, in their order: an `Answer` or a `JobFailed` each.

        `on_outcome` is called with each place and its outcome as they come, once each; without it, answers of a
        provider that turns out to lie are asked again until the run ends. `on_progress` is called after that. The run
        ends after `deadline_s` seconds, by default those of the settings, and never costs more than `budget_msat`. A
        `journal` that was taken up brings what it holds. Raises `UnreachableError` when nobody could take a single
        one. Cancelling it cancels the jobs.
        """
        specs = [JobSpec(job) if isinstance(job, str) else job for job in jobs]
        run = Run(specs, on_progress, on_outcome, journal=journal)
        await self._do(run, deadline_s, budget_msat, priority)
        if specs and not run.answered and all(f.reason is m.Failure.NO_PROVIDER for f in run.failures()):
            raise UnreachableError(
                f"no provider can take this: {self._seen(self._need(specs[0]))}",
                hint="Start one with `pylon start`, or see who is there with `pylon providers`.",
            )
        return run.results()

    async def _one(self, run: Run) -> Answer:
        [spec] = run.specs
        await self._do(run, spec.timeout + self.settings.dispatch.patience_s, None, priority=1)
        [outcome] = run.results()
        if isinstance(outcome, Answer):
            return outcome
        if outcome.reason is m.Failure.NO_PROVIDER:
            raise UnreachableError(
                f"no provider can take this: {self._seen(self._need(spec))}",
                hint="Start one with `pylon start`, or see who is there with `pylon providers`.",
            )
        raise outcome

    async def _do(self, run: Run, deadline_s: float | None, budget_msat: int | None, priority: int) -> None:
        if self._closed:
            raise UnreachableError("this client was closed")
        now = self._clock.monotonic()
        deadline = now + (self.settings.run_s if deadline_s is None else deadline_s)

        def job(spec: JobSpec, slot: int) -> m.Job:
            return job_of(slot, spec, self.settings, deadline=deadline, priority=priority)

        run.number = self._coordinator.begin(job, len(run.specs), final=run.on_outcome is not None)
        self._runs[run.number] = run
        try:
            kept = Kept({}, ()) if run.journal is None or not run.journal.taken_up else await run.journal.kept()
            run.msat = 0 if self._purse is None else await self._purse.charged(kept.requests)
            if budget_msat is not None:
                self._tell(m.Fund(run.number, max(0, budget_msat - run.msat)))
            await self._begin(run, kept)
            await run.done.wait()
            if run.journal is not None:
                await run.journal.ended()
        finally:
            if run.number in self._runs:
                self._cancel_run(run)

    async def _begin(self, run: Run, kept: Kept) -> None:
        """Settles what the journal knows, waits for what it sent, asks the rest."""
        for place, answer in kept.answers.items():
            run.settle(place, answer, self._coordinator.dispatcher.in_flight)
        if run.done.is_set():
            self._over(run)
            return
        now, wall = self._clock.monotonic(), self._clock.wall()
        open_ = {s.place: s for s in kept.sent if s.place is not None and s.expires_at > wall}
        flights: list[Flight] = []
        for place, sent in open_.items():
            number, spec = run.number, run.specs[place]
            cost = int(sent.quote or 0)
            slot, attempt, commands = self._coordinator.adopt(number, place, spec, sent.provider, cost, now, wall)
            flight = sent.flight(slot, attempt, now)
            self._flights.add(flight)
            self._flights.went_out(attempt, now)
            flights.append(flight)
            self._follow(commands)
        if flights:
            await self._inbox.look_for(flights)
        rest = [(n, spec) for n, spec in enumerate(run.specs) if n not in kept.answers and n not in open_]
        if rest:
            self._follow(self._coordinator.ask(run.number, rest, self._clock.monotonic(), self._clock.wall()))

    def _cancel_run(self, run: Run) -> None:
        """Whatever has no outcome yet is cancelled."""
        for place, outcome in enumerate(run.outcomes):
            if outcome is None:
                run.settle(place, failed(m.Failure.CANCELLED, None, 0), self._coordinator.dispatcher.in_flight)
        if run.number in self._runs:
            self._over(run)

    def _over(self, run: Run) -> None:
        del self._runs[run.number]
        self._follow(self._coordinator.end(run.number, self._clock.monotonic(), self._clock.wall()))

    def _need(self, spec: JobSpec) -> Need:
        return job_of(0, spec, self.settings, deadline=0.0).need

    def _seen(self, need: Need) -> str:
        """Who is there, and why nobody does."""
        why = "".join(f"; {count} {reason}" for reason, count in sorted(reasons(need, self.directory).items()))
        return f"{self.directory.known} providers heard of, {len(self.directory)} alive{why}"

    # --- the deciders' commands -------------------------------------------------------------------------------

    def _tell(self, event: m.SwarmEvent) -> None:
        self._follow(self._coordinator.handle(event, self._clock.monotonic(), self._clock.wall()))

    def _follow(self, commands: list[Command]) -> None:
        unwanted: dict[tuple[str, int], list[str]] = {}
        nobody: dict[Need, str] = {}
        for command in commands:
            match command:
                case m.Send():
                    self._requests.send(command)
                case m.CancelAttempt(_, attempt, provider):
                    flight = self._flights.of_attempt(attempt)
                    if flight is not None:
                        unwanted.setdefault((provider, flight.kind), []).append(flight.request)
                case Fill(run, place, answer):
                    self._settle(run, place, answer)
                case Unfill(run, place):
                    self._reopen(run, place)
                case Fail(run, place, m.Failure.NO_PROVIDER as failure, code, attempts):
                    need = self._need(self._runs[run].specs[place])
                    if need not in nobody:
                        nobody[need] = self._seen(need)
                    self._settle(run, place, failed(failure, code, attempts, nobody[need]))
                case Fail(run, place, failure, code, attempts):
                    detail = self._details.pop((run, place), "")
                    self._settle(run, place, failed(failure, code, attempts, detail))
                case c.Rescore(slot, answer):
                    self._score(slot, answer)
                case c.Changed(provider):
                    self.reconsider(provider)
        for (provider, kind), requests in unwanted.items():
            self._requests.cancel(tuple(requests), kind, provider)
        for over in self._coordinator.take_over():
            self._flights.end(over)

    def _settle(self, number: int, place: int, outcome: Outcome) -> None:
        run = self._runs.get(number)
        if run is None:
            return
        if run.journal is not None and isinstance(outcome, Answer):
            self._write(run.journal.filled(place, outcome))
        run.settle(place, outcome, self._coordinator.dispatcher.in_flight)
        if run.done.is_set():
            self._over(run)

    def _reopen(self, number: int, place: int) -> None:
        run = self._runs[number]
        if run.journal is not None:
            self._write(run.journal.unfilled(place))
        run.reopen(place)

    def _write(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._scoring.add(task)
        task.add_done_callback(self._scoring.discard)
        task.add_done_callback(report)

    def _run_of(self, slot: int) -> Run | None:
        number = self._coordinator.run_of(slot)
        return None if number is None else self._runs.get(number)

    def _fault(self, slot: int, detail: str) -> None:
        number = self._coordinator.run_of(slot)
        if number is not None:
            self._details[number, self._coordinator.place_of(slot)] = detail

    # --- what comes back --------------------------------------------------------------------------------------

    def _heard(self, event: Event, flight: Flight, meaning: Meaning) -> None:
        """An answer. Where money is at stake it is settled before the deciders hear of it."""
        match meaning:
            case PaymentAsked():
                self._settling.asked(event, flight, meaning)
            case m.Answered():
                self._settling.result(event, flight)
            case Partial(attempt, text):
                self._tell(m.Acknowledged(attempt))
                run = self._run_of(flight.slot)
                if run is not None and run.partial is not None:
                    run.partial(text)
            case _:
                self._tell(meaning)

    def _unheard(self, flight: Flight) -> None:
        self._tell(m.Unheard(flight.attempt))

    def _answered(self, flight: Flight) -> None:
        if self._checks is not None and self._rescorer is not None:
            self._checks.holds = self._rescorer.holds()
        now, run = self._clock.monotonic(), self._run_of(flight.slot)
        if run is not None:
            run.msat += int(flight.paid)
        answer = answered(flight, 1, now)
        self._follow(self._coordinator.answered(flight.slot, flight.attempt, answer, now, self._clock.wall()))

    def _score(self, slot: int, answer: Answer) -> None:
        async def score() -> None:
            spec, verdict = self._coordinator.spec_of(slot), Verdict.UNCLEAR
            with suppress(TimeoutError):
                async with asyncio.timeout(SCORE_S):
                    found = await self._rescorer.score(spec, answer.text) if self._rescorer is not None else None
                if found is not None:
                    verdict = judge(found, greedy=not spec.temperature, finish=answer.finish)
            self._follow(self._coordinator.scored(slot, verdict, self._clock.monotonic(), self._clock.wall()))

        self._write(score())

    # --- providers --------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        """Something about a provider. What may go to it is for purse and reputation to say."""
        if self._reach is not None:
            if isinstance(change, ProviderDown):
                self._reach.gone(change.provider)
            elif self._reach.holds(change.listing):
                return
        if isinstance(change, ProviderUp):
            change = ProviderUp(self._as_we_see_it(change.listing))
        self._tell(change)

    def _as_we_see_it(self, listing: Listing) -> Listing:
        provider, purse = listing.provider, self._purse
        widths = [None if purse is None else purse.width(listing)]
        trust = 1.0
        if self._checks is not None:
            widths.append(self.reputation.width(provider, self._clock.wall()))
            trust = self.reputation.trust(provider)
        return replace(
            listing,
            width=min((width for width in widths if width is not None), default=None),
            trust=trust,
            funded=purse is not None and purse.funded(listing),
            own=provider in self.settings.own,
        )

    def reconsider(self, provider: str) -> None:
        """Purse or reputation changed their mind about a provider, or it is known now where it is reached."""
        listing = self.directory.get(provider)
        if listing is not None:
            self._changed(ProviderUp(listing))

    # --- time -------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            self._presence.expire()
            self._tell(m.Tick())
            busy = self._coordinator.dispatcher.open > 0
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
        task.add_done_callback(report)
