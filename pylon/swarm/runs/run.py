"""A run: one call with its questions in order, and the outcome of each place."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylon.swarm.dispatch.budget import RunBudget
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, FailureDetail, JobFailed, JobSpec, Outcome, Progress
from pylon.swarm.runs.callbacks import call
from pylon.swarm.runs.journal import RunJournal


@dataclass(frozen=True, slots=True)
class Single:
    """The outcome of one question, what was charged for it, and the most that it can come to, in msat."""

    outcome: Outcome
    msat: int
    most_msat: int


@dataclass(slots=True)
class Run:
    """One call of `map`. `number` is given by the coordinator; `partial` is called with an answer while it is made.

    `broken` is what a callback of the caller's raised, or a fault of ours: it ends the run, and is raised to the
    caller.
    """

    specs: Sequence[JobSpec]
    report: Callable[[Progress], None] | None = None
    on_outcome: Callable[[int, Outcome], None] | None = None
    partial: Callable[[str], None] | None = None
    journal: RunJournal | None = None
    number: int = 0
    outcomes: list[Outcome | None] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    answered: int = 0
    failed: int = 0
    # All that was charged for it in msat, for second opinions and unused answers too.
    msat: int = 0
    # Of that, what an earlier process was charged.
    before: int = 0
    # Its budget, if its cost is limited.
    budget: RunBudget | None = None
    broken: BaseException | None = None
    # What to tell a person of a place that ends with this failure.
    details: dict[tuple[int, Failure], FailureDetail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outcomes = [None] * len(self.specs)
        if not self.specs:
            self.done.set()

    @property
    def most_msat(self) -> int:
        """The most that it can come to cost once it is over, since receipts may come for attempts that were given up.
        Without a budget only what was charged is counted."""
        return self.msat if self.budget is None else max(self.msat, self.before + self.budget.most)

    def settle(self, place: int, outcome: Outcome, in_flight: int) -> None:
        """Gives a place its outcome, and calls the caller's functions."""
        self.outcomes[place] = outcome
        if isinstance(outcome, Answer):
            self.answered += 1
        else:
            self.failed += 1
        try:
            if self.on_outcome is not None:
                call(self.on_outcome, place, outcome)
            if self.report is not None:
                call(self.report, Progress(len(self.specs), self.answered, self.failed, in_flight, self.msat))
        except BaseException as error:
            # Even one that should end the program: raised here it would stop the client, and not the program.
            self.give_up(error)
        if self.answered + self.failed == len(self.specs):
            self.done.set()

    def give_up(self, error: BaseException) -> None:
        """Ends the run by a fault."""
        self.broken = error
        self.done.set()

    def reopen(self, place: int) -> None:
        """Takes the answer out of a place, if there is one. What it cost stays counted."""
        if self.outcomes[place] is None:
            return
        self.outcomes[place] = None
        self.answered -= 1

    def results(self) -> list[Outcome]:
        """All outcomes, in order, once `done` is set."""
        return [outcome for outcome in self.outcomes if outcome is not None]

    def failures(self) -> list[JobFailed]:
        """The outcomes that are no answers, in order."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, JobFailed)]
