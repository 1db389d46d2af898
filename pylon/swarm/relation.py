"""How a customer stands with one provider, and what follows from it: how much may be out there, what to deposit.

Values in, decisions out. `purse` fills it from the books; a simulation fills it from its own.
"""

from dataclasses import dataclass

from pylon.money.deposit import DepositPolicy, wish
from pylon.money.mirror import End
from pylon.money.msat import ZERO, Msat
from pylon.money.price import Price
from pylon.money.receipt import AccountSeen

_DEPOSITS = DepositPolicy()


@dataclass(slots=True)
class Relation:
    """`balance` is what we have left there, in msat; `quote` the most that a job there could cost so far."""

    seen: AccountSeen | None = None
    verified: int = 0
    ended: End | None = None
    balance: int = 0
    quote: Msat = ZERO
    unpaid_until: float = 0.0
    """When the invoice runs out that it sent and that was not paid: until then it would hold what it is sent."""

    def width(self, price: Price) -> int | None:
        """How many jobs may be in flight: as many as our money there covers, and one at least; None is any number.

        That one asks for the next deposit, which grows with the work that was done well by then. Sending more
        at once would have each of them ask for a small one.
        """
        if self.ended is not None or self.unpaid_until:
            return 0
        if price.is_free:
            return None
        return max(1, self.balance // self.quote) if self.quote else 1

    def topup(self, quote: Msat, *, jobs_left: int, most: Msat) -> Msat:
        """The deposit to offer with a job that may cost `quote`."""
        self.quote = max(quote, self.quote)
        return wish(quote, verified_jobs=self.verified, jobs_left=jobs_left, most=most, policy=_DEPOSITS)
