"""What the checks want done."""

from dataclasses import dataclass

from pylon.swarm.job import Answer


@dataclass(frozen=True, slots=True)
class Accept:
    """This answer fills the slot. `how` names what it passed."""

    slot: int
    answer: Answer
    how: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the first of these providers that has room the slot's question too; `second` or `no_second` follows.

    It is waited for `within_s`; None: as long as a job may take, or until a `Wait`.
    """

    slot: int
    to: tuple[str, ...]
    within_s: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """The slot's answer is there, and the second opinion that was asked for beside it is waited for so long."""

    slot: int
    within_s: float


@dataclass(frozen=True, slots=True)
class Reopen:
    """What fills this slot is looked at once more; another `Accept` or `Again` follows."""

    slot: int


@dataclass(frozen=True, slots=True)
class Rescore:
    """Have our own model read this answer; `scored` follows."""

    slot: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Again:
    """These slots are to be asked again, by somebody else than this provider; some were filled before."""

    slots: tuple[int, ...]
    without: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What may go to this provider has changed."""

    provider: str


type CheckCommand = Accept | Ask | Wait | Reopen | Rescore | Again | Changed
