"""Places of a run: what becomes of them, and what a slot does for one."""

from dataclasses import dataclass

from pylon.jobs.codes import ErrorCode
from pylon.records import record
from pylon.swarm import check_moves as c
from pylon.swarm import moves as m
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.listing import Need

_NO_JOB = m.Job(-1, Need(), 0.0, 0.0)


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


type Command = m.Send | m.CancelAttempt | Fill | Unfill | Fail | c.Rescore | c.Changed


@dataclass(slots=True)
class Piece:
    """What a slot is for: a place of a run; with `opinion_of` only for comparison with that slot's answer."""

    run: int
    place: int
    spec: JobSpec
    job: m.Job = _NO_JOB
    opinion_of: int | None = None
    # The slot of the latest second opinion on it.
    opinion: int | None = None
    # Whether anybody was asked.
    sent: bool = False
    without: frozenset[str] = frozenset()
    again: int = 0
    attempts: int = 0
    filled: bool = False
    # It was filled, and is being looked at once more.
    reopened: bool = False
