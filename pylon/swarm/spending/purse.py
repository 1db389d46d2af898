"""The purse: the client's interface to its money. What to offer for a job, whether to pay, whether receipts hold.

Without a purse only free providers are asked, and an invoice is answered by asking somebody else.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pylon.jobs.answer import Amount
from pylon.jobs.result import Finish, JobResult
from pylon.money.accounts.mirror import End
from pylon.money.accounts.receipt import AccountSeen
from pylon.money.accounts.usage import Bounds, Usage, UsageFault, check_part, check_usage
from pylon.money.msat import Msat
from pylon.records import record
from pylon.swarm.providers.listing import Listing
from pylon.swarm.rows import Row


@record
class Offer:
    """What a request offers to its provider.

    `quote` is the most that the job can cost by the price list, `bid` the most that it may cost. `topup` is the
    deposit that is offered with it, `seen` the last receipt that we know of.
    """

    listing: Listing
    bounds: Bounds
    quote: Msat
    bid: Msat
    topup: Msat | None = None
    seen: AccountSeen | None = None


@record
class Bill:
    """A provider's event about one job of ours: its author, the customer, and when it was signed (Unix seconds).

    `signed_at` is never before the request was made, whatever the event's date: a receipt that is dated back would
    lack no payment, however long ago that was made.
    `sent_bytes` is how much of the answer had come in pieces when we took the job back; None: we did not. `let_go`:
    its author had said with an error that it does not do the job.
    """

    author: str
    customer: str
    request: str
    signed_at: float
    sent_bytes: int | None = None
    let_go: bool = False


@dataclass(frozen=True, slots=True)
class Owed:
    """A request, made at `asked_at` (Unix seconds), without a receipt that its provider may have charged for."""

    request: str
    kind: int
    offer: Offer
    asked_at: float = 0.0


def usage_fault(bill: Bill, offer: Offer, result: JobResult) -> End | None:
    """What is wrong with a result's charge, given the usage that it states and the offer; None if nothing is."""
    if result.account is None:
        return None
    if bill.let_go and result.account.charge_msat > 0:
        # Its reservation was released already.
        return UsageFault.AFTER_ERROR
    # A result without usage may charge for the job itself only.
    usage = result.usage or Usage(0, 0)
    fault = check_usage(usage, result.account.charge_msat, offer.listing.price, offer.bounds)
    if fault is None and result.finish is Finish.CANCELLED:
        return check_part(usage.completion_tokens, bill.sent_bytes)
    return fault


class Purse(Protocol):
    """See the module. `AccountPurse` implements it."""

    def width(self, listing: Listing) -> int | None:
        """How many jobs may be in flight at this provider, as far as money goes; None: no limit."""

    def barred(self, listing: Listing) -> str:
        """Why nothing may be sent there, in a few words for people; empty if something may be, now or soon."""

    def funded(self, listing: Listing) -> bool:
        """Whether one more job would run there without a payment: on our deposit, or on trial credit."""

    def offer(self, listing: Listing, bounds: Bounds, *, bid: Msat, jobs_left: int, left: int | None = None) -> Offer:
        """The offer for a job. `left` is what its run may still spend, in msat; None: any amount."""

    def ordered(self, request: str, kind: int, offer: Offer) -> Row | None:
        """The row to write before this request is published, with what it may cost; None if it is free."""

    async def unanswered(self, *, at_start: bool) -> list[Owed]:
        """Requests whose receipts are to be asked for: all without one at start, later those of accounts with a
        gap."""

    async def charged(self, requests: Sequence[str]) -> Mapping[str, int]:
        """What receipts charge for these requests, in msat, both accepted ones and those that wait for earlier
        receipts. Requests without one are left out."""

    async def pay(
        self, bill: Bill, offer: Offer, amount: Amount | None, *, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Pays what is asked. Raises `MoneyError` if nothing was sent, or the payment failed.

        A payment that has to wait for another is made only as long as the job is `wanted`.
        """

    def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Awaitable[Msat | None] | None:
        """Has a result's receipt booked; returns None at once if it has none, and may still be charged.

        The awaitable gives what was charged, or None if the relation with its provider has ended.
        """
