"""What an ask tells of its cost beside its outcomes, and what it came to when it was over. Amounts are msat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CameTo:
    """What an ask was `charged` up to now, all of it, and the `most` that it can come to. `over`: nobody is asked for
    it any more. `decided`: that is what it cost."""

    charged: int
    most: int
    over: bool
    decided: bool


class Teller(Protocol):
    """Whoever can say what became of asks."""

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """What asks came to, by the names that they told; None for one that nobody knows any more. Raises
        `UnreachableError`."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The first that comes of an ask with a bound: from here on it may cost something. By this name `by` says what,
    also when it was cancelled."""

    name: str
    by: Teller


@dataclass(frozen=True, slots=True)
class Beside:
    """What was charged beside the answers: second opinions, and attempts of which nothing was used."""

    msat: int


@dataclass(frozen=True, slots=True)
class Open:
    """The last that comes of an ask with a bound: so much may be charged yet, by whoever was given up."""

    msat: int


type Charge = Reserved | Beside | Open


class Tab:
    """What one ask has told of these."""

    def __init__(self) -> None:
        self.reserved: Reserved | None = None
        self.beside = 0
        # None as long as it is not whole.
        self.open: int | None = None

    def hear(self, charge: Charge) -> None:
        """One more."""
        match charge:
            case Reserved():
                self.reserved = charge
            case Beside(msat):
                self.beside += msat
            case Open(msat):
                self.open = msat

    def most(self, answers: int, bound: int) -> int:
        """What it can come to, with `answers` charged for its answers: all that it may cost, unless it is whole."""
        charged = answers + self.beside
        if self.reserved is None:
            return charged
        return max(charged, bound) if self.open is None else charged + self.open
