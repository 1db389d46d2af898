"""The customer's deciders as its edges see them: each call is made at the present time, and followed at once.

It holds what is known of providers (`directory`, `reputation`, `circle`), the dispatcher, the checks, and the
coordinator that combines these two. Edges tell this one object what they see: it reads the clocks, and has the
resulting commands carried out.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from pylon.clock import Clock
from pylon.jobs.announcement import OfferedModel
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.checks.verification import Verdict
from pylon.swarm.circle import Circle
from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import Directory
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.places import RunCommand
from pylon.swarm.settings import SwarmSettings


class Deciders:
    """See the module. `relays` are the URLs of the customer's relays; `reputation` is given this `circle`."""

    follow: Callable[[list[RunCommand]], None]
    """Carries out their commands. `Conductor` sets it, since its edges need the deciders first."""

    def __init__(
        self,
        settings: SwarmSettings,
        clock: Clock,
        rng: random.Random,
        relays: Sequence[str],
        reputation: Reputation,
    ) -> None:
        self.circle = Circle(settings.own, settings.allow, settings.block)
        self.directory = Directory(circle=self.circle)
        self.reputation = reputation
        self.reputation.circle = self.circle
        self.checks = None if settings.checks is None else Checks(settings.checks, self.reputation, rng)
        self.dispatcher = Dispatcher(settings.dispatch, rng, relays)
        self._coordinator = Coordinator(self.dispatcher, self.checks, self.circle)
        self.pieces = self._coordinator.pieces
        """What each slot is for."""
        self.over = self._coordinator.over
        """The slots that have ended since `follow` last cleared this list."""
        self._clock = clock

    def known(self) -> Iterator[str]:
        """The known providers: our own machines and the only ones that may be asked, or else those that answered
        lately."""
        allow = self.circle.allow
        return chain(self.circle.own, self.reputation.answering(self._clock.wall()) if allow is None else allow)

    def tell(self, event: m.SwarmEvent) -> None:
        """Tells them that a provider or a relay did something, or that time has passed."""
        self.follow(self._coordinator.handle(event, self._clock.monotonic(), self._clock.wall()))

    def begin(self, job: Callable[[JobSpec, int], m.SlotJob], jobs: int, *, final: bool) -> int:
        """A run of so many jobs begins: its number. See `Coordinator.begin`."""
        return self._coordinator.begin(job, jobs, final=final)

    def taken_up(self, run: int, answered: int, asked: int) -> None:
        """An earlier process had so many answers of this run, and asked so many second opinions."""
        self._coordinator.taken_up(run, answered, asked)

    def ask(self, run: int, questions: Iterable[tuple[int, JobSpec]], *, coming: int) -> None:
        """Asks some of a run's questions, each for its place; `coming` more will follow at once."""
        self.follow(self._coordinator.ask(run, questions, *self._now(), coming=coming))

    @contextmanager
    def adopt(
        self, run: int, place: int, spec: JobSpec, provider: str, cost: int, *, taken_back: bool
    ) -> Iterator[tuple[int, int]]:
        """Waits for the answer of a provider that an earlier process asked: gives the slot and the attempt.

        What the deciders command is done at the end of the `with` block, for it may be about this attempt: the block
        makes it known to the edges. See `Coordinator.adopt`.
        """
        slot, attempt, commands = self._coordinator.adopt(
            run, place, spec, provider, cost, *self._now(), taken_back=taken_back
        )
        yield slot, attempt
        self.follow(commands)

    @contextmanager
    def owe(self, run: int, cost: int, lapses_at: float) -> Iterator[int]:
        """Counts in a run's budget what an earlier process sent and nobody waits for: gives the attempt.

        What the deciders command is done at the end of the `with` block, as in `adopt`. See `Owe`.
        """
        attempt, commands = self._coordinator.owe(run, cost, lapses_at, *self._now())
        yield attempt
        self.follow(commands)

    def end(self, run: int) -> None:
        """The run is over: what is out for it is cancelled."""
        self.follow(self._coordinator.end(run, *self._now()))

    def answered(
        self, slot: int, attempt: int, answer: Answer, *, charged: int | None, offered: tuple[OfferedModel, ...]
    ) -> None:
        """A provider's answer came. See `Coordinator.answered`."""
        self.follow(self._coordinator.answered(slot, attempt, answer, *self._now(), charged=charged, offered=offered))

    def scored(self, slot: int, verdict: Verdict) -> None:
        """Our own model read the answer in this slot."""
        self.follow(self._coordinator.scored(slot, verdict, *self._now()))

    def _now(self) -> tuple[float, float]:
        return self._clock.monotonic(), self._clock.wall()
