"""What an ask tells of its cost beside its outcomes. Amounts are msat."""

from dataclasses import dataclass

from pylon.unsettled import Teller


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

    @property
    def named(self) -> dict[str, str]:
        """For events: by which name that can be asked after."""
        return {} if self.reserved is None else {"ask": self.reserved.name}

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
