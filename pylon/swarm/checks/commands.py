"""The commands of the checks: what they want done with answers and slots."""

from dataclasses import dataclass

from pylon.swarm.job import Answer


@dataclass(frozen=True, slots=True)
class Accept:
    """This answer fills the slot. `how` names the checks that it passed."""

    slot: int
    answer: Answer
    how: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the slot's question of one more provider: the first of `to` that has room. `second` or `no_second` follows.

    Its answer is waited for `within_s` seconds; None: as long as a job may take, or until a `Wait`.
    """

    slot: int
    to: tuple[str, ...]
    within_s: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """The slot's answer is there: wait only so many seconds more for the second opinion that was asked for early."""

    slot: int
    within_s: float


@dataclass(frozen=True, slots=True)
class Reopen:
    """The answer that fills this slot is examined once more; another `Accept` or `Again` follows."""

    slot: int


@dataclass(frozen=True, slots=True)
class Rescore:
    """Have our own model score this answer; `scored` follows."""

    slot: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Again:
    """Ask these slots again, of any provider but this one; some of them may be filled."""

    slots: tuple[int, ...]
    without: str


@dataclass(frozen=True, slots=True)
class Changed:
    """How many jobs may go to this provider, or how much it is trusted, has changed."""

    provider: str


type CheckCommand = Accept | Ask | Wait | Reopen | Rescore | Again | Changed
