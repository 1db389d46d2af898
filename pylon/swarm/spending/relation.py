"""A customer's relation with one provider in money: how much may be in flight there, and what to deposit.

Values in, decisions out. `relations` fills it from the books; a simulation fills it from its own.
"""

from dataclasses import dataclass

from pylon.money.accounts.deposit import wish
from pylon.money.accounts.gaps import SUSPENSION_S
from pylon.money.accounts.mirror import End, Fault
from pylon.money.accounts.receipt import AccountSeen
from pylon.money.msat import MSAT_PER_SAT, ZERO, Msat
from pylon.money.price import Price

# For how many seconds the dearest job counts as the usual quote: far longer than an answer takes.
QUOTE_S = 600.0


@dataclass(slots=True)
class Relation:
    """See the module. `balance` is our money there, in msat; `quote` the most that a recent job there could cost.

    `done` is the sum of the quotes of the jobs whose receipts were accepted, in msat.
    """

    seen: AccountSeen | None = None
    done: int = 0
    ended: End | None = None
    # Whether nothing is sent there for a while, since receipts are missing.
    suspended: bool = False
    balance: int = 0
    quote: Msat = ZERO
    # Whether it has asked to be paid: until it has answered something, no more trial job is to be had.
    asked: bool = False
    # When its unpaid invoice expires, in seconds of `Clock.boot`; 0: there is none. Until then it would hold any job
    # that it is sent.
    unpaid_until: float = 0.0
    # Why that was not paid, in a few words for people; empty if the reason may pass by itself.
    unpaid_why: str = ""
    # The amount of that invoice.
    unpaid: Msat = ZERO
    # The number of the present stretch of `QUOTE_S`, the highest quote in it, and in the one before.
    _stretch: int = 0
    _dearest: Msat = ZERO
    _before: Msat = ZERO

    def width(self, price: Price) -> int | None:
        """How many jobs may be in flight: as many as our money there covers, at least one; None: any number.

        That one job brings the next invoice, for a deposit that has grown with the work done well. With more at once
        each of them would bring one for a small deposit.
        """
        if self.ended is not None or self.suspended or self.unpaid_until:
            return 0
        if price.is_free:
            return None
        return max(1, self.balance // self.quote) if self.quote else 1

    @property
    def barred(self) -> str:
        """Why nothing may be sent there for long, or until somebody acts; empty if something may be."""
        if self.ended is not None:
            return f"avoided because a receipt was wrong ({self.ended.value})"
        if self.suspended:
            minutes = SUSPENSION_S / 60
            return f"avoided for up to {minutes:.0f} minutes because receipts are missing ({Fault.GAP.value})"
        return self.unpaid_why if self.unpaid_until else ""

    @property
    def funded(self) -> bool:
        """Whether one more job would run there without a payment: on our money, or on a first trial job."""
        if self.ended is not None or self.suspended:
            return False
        return (self.seen is None and not self.asked) or 0 < self.quote <= self.balance

    def topup(self, quote: Msat, *, jobs_left: int, most: Msat, now: float, affordable: Msat | None = None) -> Msat:
        """The deposit to offer at `now` (Unix seconds) with a job that may cost `quote`.

        `affordable` is what can be paid, if known: more is offered only if the job itself needs it.
        """
        self.quoted(quote, now)
        left = max(0, self.balance)
        wished = wish(quote, done=self.done, left=left, jobs_left=jobs_left, most=most)
        wished_sats = int(wished) // MSAT_PER_SAT
        # What the job itself lacks. A provider asks for the work it did on credit together with the next job: a
        # customer that runs one job at a time would otherwise offer less than any provider takes.
        owed = max(0, -self.balance) if self.done else 0
        least_sats = min(max(0, -((left - owed - int(quote)) // MSAT_PER_SAT)), int(most) // MSAT_PER_SAT)
        if self.done:
            wished_sats = max(wished_sats, least_sats)
        if affordable is not None:
            wished_sats = min(wished_sats, max(least_sats, int(affordable) // MSAT_PER_SAT))
        return Msat(wished_sats * MSAT_PER_SAT)

    def quoted(self, quote: Msat, now: float) -> None:
        """A job that may cost `quote` is sent there. It counts for `QUOTE_S` at least, and for twice that at most."""
        if (stretch := int(now // QUOTE_S)) != self._stretch:
            # If the clock was set, the count starts anew.
            self._before = self._dearest if stretch == self._stretch + 1 else ZERO
            self._stretch, self._dearest = stretch, ZERO
        self._dearest = max(self._dearest, quote)
        self.quote = max(self._dearest, self._before)
