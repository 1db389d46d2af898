"""Runs of jobs in order: which slot belongs to which place, and what has become of each."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylon.swarm.job import Answer, JobFailed, JobSpec, Outcome, Progress


@dataclass(slots=True)
class Run:
    """One call of `map`. `first` is the slot of its first job; the others follow it."""

    specs: Sequence[JobSpec]
    first: int
    report: Callable[[Progress], None] | None
    on_outcome: Callable[[int, Outcome], None] | None = None
    outcomes: list[Outcome | None] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    answered: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.outcomes = [None] * len(self.specs)
        if not self.specs:
            self.done.set()

    @property
    def open_slots(self) -> tuple[int, ...]:
        return tuple(self.first + place for place, outcome in enumerate(self.outcomes) if outcome is None)

    def spec(self, slot: int) -> JobSpec:
        return self.specs[slot - self.first]

    def settle(self, slot: int, outcome: Outcome, in_flight: int) -> None:
        """A slot has its outcome."""
        self.outcomes[slot - self.first] = outcome
        if self.on_outcome is not None:
            self.on_outcome(slot - self.first, outcome)
        if isinstance(outcome, Answer):
            self.answered += 1
        else:
            self.failed += 1
        if self.report is not None:
            self.report(Progress(len(self.specs), self.answered, self.failed, in_flight))
        if self.answered + self.failed == len(self.specs):
            self.done.set()

    def results(self) -> list[Outcome]:
        """All outcomes, in order, once `done` is set."""
        return [outcome for outcome in self.outcomes if outcome is not None]

    def failures(self) -> list[JobFailed]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, JobFailed)]
