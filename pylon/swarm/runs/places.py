"""Places of a run: what becomes of them, and what a slot does for one."""

from dataclasses import dataclass, replace

from pylon.jobs.codes import ErrorCode
from pylon.records import record
from pylon.swarm.checks import commands as c
from pylon.swarm.dispatch import messages as m
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.listing import Need

# How often a place is asked anew because its answer was no good.
MOST_AGAIN = 3

_NO_JOB = m.SlotJob(-1, Need(), 0.0, 0.0)


@record
class Fill:
    """This answer stands in a run's place, until an `Unfill`."""

    run: int
    place: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Unfill:
    """What stood in a run's place stands no longer.

    `bad`: it is by somebody who lied, and the place is asked again. Otherwise it is looked at once more, and is all
    that there is for whoever takes the run up meanwhile: the place has been paid for.
    """

    run: int
    place: int
    bad: bool = True


@dataclass(frozen=True, slots=True)
class Fail:
    """A run's place stays empty."""

    run: int
    place: int
    failure: m.Failure
    code: ErrorCode | None
    attempts: int


type RunCommand = m.Send | m.CancelAttempt | m.Lapsed | Fill | Unfill | Fail | c.Rescore | c.Changed


@dataclass(slots=True)
class Piece:
    """What a slot is for: a place of a run; with `opinion_of` only for comparison with that slot's answer."""

    run: int
    place: int
    spec: JobSpec
    job: m.SlotJob = _NO_JOB
    opinion_of: int | None = None
    # The slot of the latest second opinion on it.
    opinion: int | None = None
    # Whether anybody was asked.
    sent: bool = False
    without: frozenset[str] = frozenset()
    # How often its place was asked anew, and sent in all.
    asked_again: int = 0
    attempts: int = 0
    filled: bool = False
    # It was filled, and is being looked at once more.
    reopened: bool = False

    @property
    def is_last(self) -> bool:
        """Whether its place was asked as often as any may be."""
        return self.asked_again >= MOST_AGAIN

    def fill(self, answer: Answer, how: tuple[str, ...]) -> Fill:
        """The answer stands, having passed `how`."""
        self.filled, self.reopened = True, False
        if how or answer.attempts != self.attempts:
            verified = tuple(dict.fromkeys((*answer.verified, *how)))
            answer = replace(answer, attempts=self.attempts, verified=verified)
        return Fill(self.run, self.place, answer)

    def fail(self, failure: m.Failure, code: ErrorCode | None, attempts: int) -> Fail:
        """Nothing more is asked for it, after so many more sendings."""
        self.filled = True
        return Fail(self.run, self.place, failure, code, self.attempts + attempts)

    def reopen(self) -> Unfill:
        """What fills it is looked at once more."""
        self.filled, self.reopened = False, True
        return Unfill(self.run, self.place, bad=False)

    def unfill(self) -> Unfill | None:
        """What fills it, or did so before it was looked at once more, is no good."""
        return Unfill(self.run, self.place) if self.filled or self.reopened else None

    def again(self, without: str) -> "Piece":
        """Its place, asked again of somebody else than all whose answers were no good."""
        return Piece(
            self.run, self.place, self.spec, without=self.without | {without}, asked_again=self.asked_again + 1,
            attempts=self.attempts,
        )  # fmt: skip
