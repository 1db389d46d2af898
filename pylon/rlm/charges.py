"""What an ask reports of its cost besides its outcomes. Amounts are msat.

An *ask* is one call of `SubLM.ask`: several jobs that are sent together and paid from one sum.
"""

from dataclasses import dataclass

from pylon.unsettled import Teller


@dataclass(frozen=True, slots=True)
class Reserved:
    """The first report of an ask with a bound: from here on it may cost something. `by` can be asked under this name
    what it cost, also after the ask was cancelled."""

    name: str
    by: Teller


@dataclass(frozen=True, slots=True)
class ExtraCharge:
    """A charge that is not the price of an answer: a second opinion, or an attempt whose result was not used."""

    msat: int


@dataclass(frozen=True, slots=True)
class OpenCharge:
    """The last report of an ask with a bound: what providers that were given up may still charge."""

    msat: int


type Charge = Reserved | ExtraCharge | OpenCharge


class Tab:
    """The running account of one ask: all that it has reported of its cost."""

    def __init__(self) -> None:
        self.reserved: Reserved | None = None
        self.extra = 0
        # None until the ask has reported everything.
        self.open: int | None = None

    @property
    def named(self) -> dict[str, str]:
        """The event field that names the ask; empty if it has no name."""
        return {} if self.reserved is None else {"ask": self.reserved.name}

    def hear(self, charge: Charge) -> None:
        """Adds a report."""
        match charge:
            case Reserved():
                self.reserved = charge
            case ExtraCharge(msat):
                self.extra += msat
            case OpenCharge(msat):
                self.open = msat

    def most(self, answers: int, bound: int) -> int:
        """The most that the ask can come to, if its answers were charged `answers`: its whole `bound`, unless it has
        reported what is still open."""
        charged = answers + self.extra
        if self.reserved is None:
            return charged
        return max(charged, bound) if self.open is None else charged + self.open
