"""The customer's edge: prompts in, answers in order out. What becomes of them is `conductor`'s.

    async with SwarmClient(pool, secret) as swarm:
        answer = await swarm.complete("How many legs has a spider?", max_tokens=16)
        outcomes = await swarm.map([JobSpec(text) for text in texts])

One subscription brings all answers and one all providers, however many jobs are out. What reads them never waits
for a publication: publications run beside it, a bounded number at once.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import batched
from typing import Any, Self

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.errors import UnreachableError, UsageError
from pylon.loop_thread import in_another_loop
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.checks.rescoring import Rescorer
from pylon.swarm.circle import Circle
from pylon.swarm.conductor import Conductor
from pylon.swarm.dispatch import moves as m
from pylon.swarm.job import Answer, JobSpec, Outcome, Progress
from pylon.swarm.meanwhile import Latest, meanwhile
from pylon.swarm.providers.directory import Directory
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.presence import Presence
from pylon.swarm.providers.reach import Reach
from pylon.swarm.runs.asked import check_bounds, check_jobs, spec_of, unaskable
from pylon.swarm.runs.callbacks import check_callbacks
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.kept import Kept
from pylon.swarm.runs.open_runs import AT_ONCE
from pylon.swarm.runs.reservation import Reservation
from pylon.swarm.runs.run import Run, Single
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.spending.purse import Purse
from pylon.swarm.spending.receipts import LateReceipts
from pylon.swarm.transport import Transport
from pylon.swarm.wire.inbox import Inbox
from pylon.swarm.wire.outbox import Outbox
from pylon.swarm.wire.relay_watch import RelayWatch
from pylon.swarm.wire.settling import report

logger = log.get("swarm")

TICK_S = 0.1
IDLE_TICK_S = 1.0
LOOK_S = 0.5
# So long a run that is taken up waits for the receipts of what it had sent; what is not known by then is set aside.
RECEIPTS_S = 10.0
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
        """`reach` finds providers at relays of theirs; without one they are asked at ours alone. `reputation` is seen
        with this client's `circle` from now on."""
        settings = settings or SwarmSettings()
        self.circle = Circle(settings.own, settings.allow, settings.block)
        self.directory = Directory(circle=self.circle)
        self.reputation = Reputation() if reputation is None else reputation
        self.reputation.circle = self.circle
        self._pool = pool
        self._purse = purse
        self._reach = reach
        self._clock = clock or SystemClock()
        rng = rng or random.Random()  # noqa: S311 - it spreads load, nothing secret
        keys = keys or ConversationKeys(secret)
        self._outbox = Outbox(settings.publishing)
        self._conductor = conductor = Conductor(
            pool=pool, secret=secret, keys=keys, settings=settings, circle=self.circle, directory=self.directory,
            outbox=self._outbox, clock=self._clock, rng=rng, purse=purse, reputation=self.reputation,
            rescorer=rescorer, reach=reach,
        )  # fmt: skip
        self._presence = Presence(pool, self.directory, keys, self._clock, conductor.outlook.changed)
        self._relays = RelayWatch(pool, self._clock, conductor.tell)
        flights, answers = conductor.flights, conductor.answers
        self._inbox = Inbox(
            pool=pool, flights=flights, keys=keys, public=secret.public, clock=self._clock, heard=answers.heard,
            unheard=answers.unheard, repeat=conductor.repeat, spoke=self._relays.spoke,
        )  # fmt: skip
        self._late = (
            None if purse is None else LateReceipts(pool, purse, keys, secret.public, flights.awaits, answers.booked)
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def settings(self) -> SwarmSettings:
        """The rules for all jobs, as they were given. Who may be asked by now is in `circle`."""
        return self._conductor.settings

    async def start(self) -> None:
        """Begins to listen for providers and for answers."""
        self._loop = asyncio.get_running_loop()
        for work in (self._inbox.run(), self._presence.run(), self._tick(), self._look()):
            self._spawn(work)
        if self._late is not None:
            self._spawn(self._late.run())
        if self._reach is not None:
            self._spawn(self._reach.run())

    async def close(self) -> None:
        """Cancels what is out, and stops. Callers that still wait get `cancelled` outcomes."""
        self._check_loop()
        self._closed = True
        self._conductor.runs.cancel_all()
        await self._outbox.close(within=CLOSE_S)
        await self._conductor.close()
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
        self._check_loop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._presence.caught_up.wait(), timeout)
        return self._presence.caught_up.is_set()

    def change_company(self, *, allow: frozenset[str] | None, own: frozenset[str]) -> None:
        """From now on these alone may be asked (None: anybody), and these are one's own machines."""
        self._conductor.change_company(allow=allow, own=own)

    def reconsider(self, provider: str) -> None:
        """What may go to this provider has changed, by what its purse says."""
        self._conductor.outlook.reconsider(provider)

    def why_not(self, job: JobSpec, listing: Listing) -> str:
        """Why this provider is not asked for such a job, in a few words, or empty when it may be."""
        return self._conductor.why_not(job, listing)

    def rest_of(self, provider: str) -> tuple[float, str] | None:
        """Until when this provider is left alone, in Unix seconds, and why; None for one that is not."""
        rest = self._conductor.coordinator.dispatcher.rest_of(provider, self._clock.monotonic())
        return None if rest is None else (self._clock.wall() + rest[0], rest[1])

    # --- asking -----------------------------------------------------------------------------------------------

    async def complete(self, job: JobSpec | str = "", **parameters: Any) -> Answer:
        """The answer to one question: a `JobSpec`, or its prompt (none where there are `messages`) and any other
        field of `JobSpec`.

        It goes before the jobs of maps. Raises `JobFailed`, or `UnreachableError` when no provider is alive that
        could take it.
        """
        return await self._one(Run([spec_of(job, parameters)]))

    async def stream(self, job: JobSpec | str = "", **parameters: Any) -> AsyncGenerator[str | Answer]:
        """The answer to one question while it is made: the whole text so far, again and again, then the `Answer`.

        Whoever reads slowly gets the longest alone. A text may start anew when its provider is replaced by another.
        Raises as `complete` does.
        """
        spec = spec_of(job, parameters)
        texts = Latest[str]()
        run = Run([replace(spec, stream=True)], partial=texts.say)
        async with meanwhile(self._one(run), texts.over) as asking:
            async for text in texts:
                yield text
            yield await asking

    async def map(
        self,
        jobs: Iterable[JobSpec | str],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_outcome: Callable[[int, Outcome], None] | None = None,
        deadline_s: float | None = None,
        budget_msat: int | None = None,
        priority: int = 0,
        journal: RunJournal | None = None,
        reservation: Reservation | None = None,
    ) -> list[Outcome]:
        """The outcomes of many questions, in their order: an `Answer` or a `JobFailed` each.

        `on_outcome` is called with each place and its outcome as they come, once each; without it, answers of a
        provider that turns out to lie are asked again until the run ends. `on_progress` is called after that. The run
        ends after `deadline_s` seconds, by default those of the settings, and never costs more than `budget_msat`. A
        `journal` that was taken up brings what it holds. A `reservation` in the place of `budget_msat` bounds it too,
        and tells what it cost. Raises `UnreachableError` when nobody could take a single one, `TypeError` and
        `ValueError` before anything is asked for what is no job, no bound and no function to be called, and what one
        of these functions raises (`UsageError` for a StopIteration and the like, which would end something else).
        Cancelling it cancels the jobs.
        """
        check_jobs(jobs)
        check_callbacks(on_progress=on_progress, on_outcome=on_outcome)
        specs: list[JobSpec] = []
        for some in batched(jobs, AT_ONCE):
            specs += [spec_of(job, {}) for job in some]
            await asyncio.sleep(0)
        check_bounds(deadline_s, budget_msat, priority)
        run = Run(specs, on_progress, on_outcome, journal=journal)
        if reservation is None and budget_msat is not None:
            reservation = Reservation(budget_msat)
        await self._do(run, deadline_s, reservation, priority)
        if specs and not run.answered and all(f.reason is m.Failure.NO_PROVIDER for f in run.failures()):
            raise self._conductor.nobody(specs[0])
        return run.results()

    async def so_far(self, journal: RunJournal) -> tuple[Kept, int]:
        """What an earlier call left of a run, and what it was charged, in msat. Nobody is asked anything."""
        kept = await journal.kept()
        return kept, 0 if self._purse is None else sum((await self._purse.charged(kept.requests)).values())

    async def single(
        self,
        spec: JobSpec,
        *,
        reservation: Reservation | None = None,
        partial: Callable[[str], None] | None = None,
    ) -> Single:
        """What comes of one question, which never costs more than its reservation. It goes before the jobs of maps.

        `partial` hears the whole text so far, again and again, of a job with `stream`. Cancelling it cancels the job.
        """
        run = Run([spec], partial=partial)
        await self._do(run, spec.timeout + self.settings.dispatch.patience_s, reservation, priority=1)
        [outcome] = run.results()
        return Single(outcome, run.msat, run.most_msat)

    async def _one(self, run: Run) -> Answer:
        [spec] = run.specs
        if failure := unaskable(spec, plain=self.settings.plain):
            raise failure
        await self._do(run, spec.timeout + self.settings.dispatch.patience_s, None, priority=1)
        [outcome] = run.results()
        if isinstance(outcome, Answer):
            return outcome
        if outcome.reason is m.Failure.NO_PROVIDER:
            raise self._conductor.nobody(spec)
        raise outcome

    async def _do(self, run: Run, deadline_s: float | None, reservation: Reservation | None, priority: int) -> None:
        if self._closed:
            raise UnreachableError("this client was closed")
        if self._loop is None:
            raise UsageError("this client was started nowhere yet", hint="Ask inside of `async with SwarmClient(…)`.")
        self._check_loop()
        deadline = self._clock.monotonic() + (self.settings.run_s if deadline_s is None else deadline_s)
        runs = self._conductor.runs
        runs.open(run, deadline=deadline, priority=priority)
        try:
            kept, charged = await self._kept(run.journal, deadline)
            run.msat = run.before = sum(charged.values())
            if reservation is not None and runs.is_open(run):
                runs.fund(run, reservation)
                await runs.owe(run, kept, charged)
            found, rest = await runs.take_up(run, kept, charged)
            await runs.ask(run, rest)
            if found:
                await self._inbox.look_for(found)
            await run.done.wait()
            if run.broken is not None:
                raise run.broken
            if run.journal is not None:
                await run.journal.ended()
        finally:
            runs.drop(run)
            if reservation is not None:
                reservation.end()

    async def _kept(self, journal: RunJournal | None, deadline: float) -> tuple[Kept, Mapping[str, int]]:
        """What an earlier process left of a run, and what it was charged by request."""
        if journal is None or not journal.taken_up:
            return Kept({}, ()), {}
        kept = await journal.kept()
        if self._purse is None or self._late is None:
            return kept, {}
        # Providers may have answered, and charged, while nobody was there.
        with suppress(TimeoutError):
            within_s = min(RECEIPTS_S, max(0.0, deadline - self._clock.monotonic()))
            await asyncio.wait_for(self._late.caught_up.wait(), within_s)
        return kept, await self._purse.charged(kept.requests)

    # --- time -------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            try:
                self._presence.expire()
                self._relays.look()
                self._conductor.tell(m.Tick())
            except Exception as error:
                # Without the next turn no job would ever be late.
                logger.error("a turn of the customer failed", exc_info=error)
            busy = self._conductor.busy
            warmed = not busy and self._presence.warm_one()
            await asyncio.sleep(TICK_S if busy else 0 if warmed else IDLE_TICK_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._inbox.look()
                await self._presence.complete()
            except Exception as error:
                logger.error("a look at the relays failed", exc_info=error)

    def _check_loop(self) -> None:
        if self._loop not in (None, asyncio.get_running_loop()):
            raise in_another_loop("client")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(report)
