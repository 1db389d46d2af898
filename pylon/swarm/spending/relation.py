"""How a customer stands with one provider, and what follows from it: how much may be out there, what to deposit.

Values in, decisions out. `relations` fills it from the books; a simulation fills it from its own.
"""

from dataclasses import dataclass

from pylon.money.accounts.deposit import DepositPolicy, wish
from pylon.money.accounts.gaps import SUSPENSION_S
from pylon.money.accounts.mirror import End, Fault
from pylon.money.accounts.receipt import AccountSeen
from pylon.money.msat import MSAT_PER_SAT, ZERO, Msat
from pylon.money.price import Price

_DEPOSITS = DepositPolicy()
# So long the dearest job says what one costs: far beyond the time that an answer takes.
QUOTE_S = 600.0


@dataclass(slots=True)
class Relation:
    """`balance` is what we have left there, in msat; `quote` the most that a job there could cost lately."""

    seen: AccountSeen | None = None
    verified: int = 0
    ended: End | None = None
    suspended: bool = False
    """Whether nothing goes there for a while, since receipts of it are missing."""
    balance: int = 0
    quote: Msat = ZERO
    asked: bool = False
    """Whether it has asked to be paid: as long as it has answered nothing, it gives no job on trial."""
    unpaid_until: float = 0.0
    """When the invoice runs out that it sent and that was not paid: until then it would hold what it is sent.

    In seconds of the clock that counts sleep and is never set; 0 for none.
    """
    unpaid_why: str = ""
    """Why it was not paid, in a few words for people; empty where that may pass by itself."""
    unpaid: Msat = ZERO
    """What that invoice asked for."""
    # Which stretch of `QUOTE_S` it is, and the highest quote of it and of the one before.
    _stretch: int = 0
    _dearest: Msat = ZERO
    _before: Msat = ZERO

    def width(self, price: Price) -> int | None:
        """How many jobs may be in flight: as many as our money there covers, and one at least; None is any number.

        That one asks for the next deposit, which grows with the work that was done well by then. Sending more
        at once would have each of them ask for a small one.
        """
        if self.ended is not None or self.suspended or self.unpaid_until:
            return 0
        if price.is_free:
            return None
        return max(1, self.balance // self.quote) if self.quote else 1

    @property
    def barred(self) -> str:
        """Why nothing may go there until somebody does something about it, or for long; or empty."""
        if self.ended is not None:
            return f"avoided because a receipt was wrong ({self.ended.value})"
        if self.suspended:
            minutes = SUSPENSION_S / 60
            return f"avoided for up to {minutes:.0f} minutes because receipts are missing ({Fault.GAP.value})"
        return self.unpaid_why if self.unpaid_until else ""

    @property
    def funded(self) -> bool:
        """Whether one more job would run there without a payment: on our money, or a stranger's on trial."""
        if self.ended is not None or self.suspended:
            return False
        return (self.seen is None and not self.asked) or 0 < self.quote <= self.balance

    def topup(self, quote: Msat, *, jobs_left: int, most: Msat, now: float, affordable: Msat | None = None) -> Msat:
        """The deposit to offer at `now` (Unix seconds) with a job that may cost `quote`.

        `affordable` is what can be paid, where that is known: no more is offered, but for what the job itself needs.
        """
        self.quoted(quote, now)
        wished = wish(quote, verified_jobs=self.verified, jobs_left=jobs_left, most=most, policy=_DEPOSITS)
        wished_sats, most_sats = int(wished) // MSAT_PER_SAT, int(most) // MSAT_PER_SAT
        if self.verified:
            # What it worked on credit it asks for along with the next job: who runs one job at a time would otherwise
            # offer less than any provider takes.
            least_sats = min(-((min(0, self.balance) - int(quote)) // MSAT_PER_SAT), most_sats)
            wished_sats = max(wished_sats, least_sats)
        else:
            # Who has worked nothing off yet gets no more than a stranger does, however often he asks.
            left = max(0, self.balance)
            least_sats = -((left - int(quote)) // MSAT_PER_SAT)
            wished_sats = max(0, wished_sats - left // MSAT_PER_SAT)
        if affordable is not None:
            wished_sats = min(wished_sats, max(least_sats, int(affordable) // MSAT_PER_SAT))
        return Msat(wished_sats * MSAT_PER_SAT)

    def quoted(self, quote: Msat, now: float) -> None:
        """A job that may cost `quote` goes there. It counts for `QUOTE_S` at least, and for twice that at most."""
        if (stretch := int(now // QUOTE_S)) != self._stretch:
            # A clock that was set starts anew.
            self._before = self._dearest if stretch == self._stretch + 1 else ZERO
            self._stretch, self._dearest = stretch, ZERO
        self._dearest = max(self._dearest, quote)
        self.quote = max(self._dearest, self._before)
