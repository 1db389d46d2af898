"""The swarm client: prompts in, answers in order out. `parts` shows how its parts are connected.

    async with SwarmClient(pool, secret) as swarm:
        answer = await swarm.complete("How many legs has a spider?", max_tokens=16)
        outcomes = await swarm.map([JobSpec(text) for text in texts])

One subscription brings all answers and one all providers, however many jobs are in flight. Reading them never waits
for a publication: publications run in tasks of their own, a bounded number at once.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from itertools import batched
from typing import Any, Self

from pylon.clock import Clock, SystemClock
from pylon.errors import UnreachableError, UsageError
from pylon.loop_thread import in_another_loop
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.checks.rescoring import Rescorer
from pylon.swarm.dispatch import messages as m
from pylon.swarm.job import Answer, JobSpec, Outcome, Progress
from pylon.swarm.meanwhile import LatestValue, meanwhile
from pylon.swarm.parts import Parts
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.reach import Reach
from pylon.swarm.run_driver import RunDriver
from pylon.swarm.runs.callbacks import check_callbacks
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.kept import Kept
from pylon.swarm.runs.open_runs import AT_ONCE
from pylon.swarm.runs.question_checks import check_bounds, check_jobs, spec_of
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.runs.run import Run, Single
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.spending.purse import Purse
from pylon.swarm.transport import Transport
from pylon.swarm.upkeep import Upkeep

# Seconds for cancellations at the close: providers would otherwise work on to the end for nobody.
CLOSE_S = 2.0


class SwarmClient:
    """See the module. The caller starts the pool before, and closes it after."""

    def __init__(
        self,
        pool: Transport,
        secret: SecretKey,
        *,
        settings: SwarmSettings | None = None,
        keys: ConversationKeys | None = None,
        clock: Clock | None = None,
        purse: Purse | None = None,
        reputation: Reputation | None = None,
        rescorer: Rescorer | None = None,
        reach: Reach | None = None,
    ) -> None:
        """`reach` finds providers at their own relays; without one they are asked at ours only. `reputation` is given
        this client's `circle`."""
        self.settings = settings or SwarmSettings()
        """The rules for all jobs, as they were given. Who may be asked by now is in `circle`."""
        self._clock = clock or SystemClock()
        self._parts = parts = Parts(
            pool, secret, self.settings,
            keys=keys or ConversationKeys(secret),
            clock=self._clock,
            rng=random.Random(),  # noqa: S311 - it spreads load, nothing secret
            purse=purse, reputation=Reputation() if reputation is None else reputation, rescorer=rescorer,
            reach=reach,
        )  # fmt: skip
        self.circle = parts.deciders.circle
        self.directory = parts.deciders.directory
        self.reputation = parts.deciders.reputation
        self._driver = RunDriver(parts)
        self._upkeep = Upkeep(parts)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def start(self) -> None:
        """Begins to listen for providers and for answers."""
        self._loop = asyncio.get_running_loop()
        self._upkeep.start()

    async def close(self) -> None:
        """Cancels all jobs, and stops. Callers that still wait get `cancelled` outcomes."""
        self._check_loop()
        self._closed = True
        # Run in reverse order, each even if closing is cancelled meanwhile.
        async with AsyncExitStack() as parts:
            # Money that is on its way is booked, once nothing more is heard.
            parts.push_async_callback(self._parts.answers.close)
            parts.push_async_callback(self._upkeep.close)
            parts.push_async_callback(self._parts.outbox.close, within=CLOSE_S)
            self._parts.runs.cancel_all()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def caught_up(self, timeout: float = 5.0) -> bool:
        """Waits until a relay has sent the providers that it knows; False if none did in time."""
        self._check_loop()
        caught_up = self._parts.presence.caught_up
        with suppress(TimeoutError):
            await asyncio.wait_for(caught_up.wait(), timeout)
        return caught_up.is_set()

    @property
    def in_flight(self) -> int:
        """How many requests to providers are waited for now, those of all calls."""
        return self._parts.deciders.dispatcher.in_flight

    def change_circle(self, *, allow: frozenset[str] | None, own: frozenset[str]) -> None:
        """Sets the only providers that may be asked (None: any), and one's own machines."""
        for provider in self.circle.change(allow=allow, own=own):
            self.reconsider(provider)

    def reconsider(self, provider: str) -> None:
        """The purse sees this provider differently now: its width or credit changed."""
        self._parts.outlook.reconsider(provider)

    def why_not(self, job: JobSpec, listing: Listing) -> str:
        """Why this provider is not asked for such a job, in a few words; empty if it may be."""
        return self.judge(job)(listing)

    def judge(self, job: JobSpec) -> Callable[[Listing], str]:
        """`why_not` for many providers: what the job needs is found once."""
        return partial(self._parts.outlook.why_not, self._parts.runs.need(job))

    def rest_of(self, provider: str) -> tuple[float, str] | None:
        """Until when this provider is left alone, in Unix seconds, and why; None if it is not."""
        rest = self._parts.deciders.dispatcher.rest_of(provider, self._clock.monotonic())
        return None if rest is None else (self._clock.wall() + rest[0], rest[1])

    # --- asking -----------------------------------------------------------------------------------------------

    async def complete(self, job: JobSpec | str = "", **parameters: Any) -> Answer:
        """The answer to one question: a `JobSpec`, or its prompt (none where there are `messages`) and any other
        field of `JobSpec`.

        It goes before the jobs of maps. Raises `JobFailed`, or `UnreachableError` when no provider is alive that
        could take it.
        """
        return await self._one(spec_of(job, parameters))

    async def stream(self, job: JobSpec | str = "", **parameters: Any) -> AsyncGenerator[str | Answer]:
        """The answer to one question while it is made: the whole text so far, again and again, then the `Answer`.

        A slow reader gets only the longest text. A text may start anew when its provider is replaced by another.
        Raises as `complete` does.
        """
        spec = spec_of(job, parameters)
        texts = LatestValue[str]()
        one = self._one(replace(spec, stream=True), texts.say)
        async with meanwhile(one, texts.over) as asking:
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
        reservation: CallReservation | None = None,
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
            reservation = CallReservation(budget_msat)
        await self._do(run, deadline_s, reservation, priority)
        if specs and not run.answered and all(f.reason is m.Failure.NO_PROVIDER for f in run.failures()):
            raise self._driver.nobody(specs[0])
        return run.results()

    def lack(self, spec: JobSpec) -> UnreachableError:
        """Who is there, why nobody takes this question, and what to do about it."""
        return self._driver.nobody(spec)

    async def so_far(self, journal: RunJournal) -> tuple[Kept, int]:
        """What an earlier call left of a run, and what it was charged, in msat. No request is sent."""
        kept = await journal.kept()
        return kept, sum((await self._driver.charged(kept)).values())

    async def single(
        self,
        spec: JobSpec,
        *,
        reservation: CallReservation | None = None,
        partial: Callable[[str], None] | None = None,
    ) -> Single:
        """The outcome and cost of one question, which never exceeds its reservation. It goes before the jobs of maps.

        `partial` hears the whole text so far, again and again, of a job with `stream`. Cancelling it cancels the job.
        """
        run = Run([spec], partial=partial)
        await self._do(run, spec.timeout + self.settings.dispatch.patience_s, reservation, priority=1)
        [outcome] = run.results()
        return Single(outcome, run.msat, run.most_msat)

    async def _one(self, spec: JobSpec, partial: Callable[[str], None] | None = None) -> Answer:
        outcome = (await self.single(spec, partial=partial)).outcome
        if isinstance(outcome, Answer):
            return outcome
        if outcome.reason is m.Failure.NO_PROVIDER:
            raise self._driver.nobody(spec)
        raise outcome

    async def _do(
        self, run: Run, deadline_s: float | None, reservation: CallReservation | None, priority: int
    ) -> None:
        if self._closed:
            raise UnreachableError("this client is closed")
        if self._loop is None:
            raise UsageError("this client has not been started", hint="Use it inside `async with SwarmClient(…)`.")
        self._check_loop()
        within_s = self.settings.run_s if deadline_s is None else deadline_s
        await self._driver.ask(run, within_s=within_s, reservation=reservation, priority=priority)

    def _check_loop(self) -> None:
        if self._loop not in (None, asyncio.get_running_loop()):
            raise in_another_loop("client")
