"""Places of a run, one for each of its questions: the commands that fill them, and the piece behind each slot."""

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
    """Put this answer into a run's place. It holds until an `Unfill`."""

    run: int
    place: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Unfill:
    """Take the answer out of a run's place.

    `bad`: its provider lied, and the place is asked again. Otherwise the answer is examined once more, and is kept on
    disk meanwhile: the place has been paid for.
    """

    run: int
    place: int
    bad: bool = True


@dataclass(frozen=True, slots=True)
class Fail:
    """A run's place ends without an answer."""

    run: int
    place: int
    failure: m.Failure
    code: ErrorCode | None
    attempts: int


type RunCommand = m.Send | m.CancelAttempt | m.Lapsed | Fill | Unfill | Fail | c.Rescore | c.Changed


@dataclass(slots=True)
class Piece:
    """What a slot is for: a place of a run, or with `opinion_of` only a second opinion on that slot's answer."""

    run: int
    place: int
    spec: JobSpec
    job: m.SlotJob = _NO_JOB
    opinion_of: int | None = None
    # The slot of the latest second opinion on it.
    opinion: int | None = None
    # Whether it was sent to any provider.
    sent: bool = False
    without: frozenset[str] = frozenset()
    # How often its place was asked anew, and sent in all.
    asked_again: int = 0
    attempts: int = 0
    filled: bool = False
    # It was filled, and its answer is being examined once more.
    reopened: bool = False

    @property
    def is_last(self) -> bool:
        """Whether its place may not be asked again."""
        return self.asked_again >= MOST_AGAIN

    def fill(self, answer: Answer, how: tuple[str, ...]) -> Fill:
        """Fills the place with an answer that passed the checks `how`."""
        self.filled, self.reopened = True, False
        if how or answer.attempts != self.attempts:
            verified = tuple(dict.fromkeys((*answer.verified, *how)))
            answer = replace(answer, attempts=self.attempts, verified=verified)
        return Fill(self.run, self.place, answer)

    def fail(self, failure: m.Failure, code: ErrorCode | None, attempts: int) -> Fail:
        """Ends the place without an answer, after so many more sendings."""
        self.filled = True
        return Fail(self.run, self.place, failure, code, self.attempts + attempts)

    def reopen(self) -> Unfill:
        """Takes the answer out, for it is examined once more."""
        self.filled, self.reopened = False, True
        return Unfill(self.run, self.place, bad=False)

    def unfill(self) -> Unfill | None:
        """Takes out an answer that is no good; None if there is none, nor one that is being examined again."""
        return Unfill(self.run, self.place) if self.filled or self.reopened else None

    def again(self, without: str) -> "Piece":
        """A new piece for its place, without the providers whose answers were no good."""
        return Piece(
            self.run, self.place, self.spec, without=self.without | {without}, asked_again=self.asked_again + 1,
            attempts=self.attempts,
        )  # fmt: skip
