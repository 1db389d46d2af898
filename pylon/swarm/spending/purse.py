"""The customer's money, as the client needs it: what to offer for a job, whether to pay, whether receipts hold.

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
    """What a request offers. `quote` is the most that the job can cost by the price list, `bid` the most it may."""

    listing: Listing
    bounds: Bounds
    quote: Msat
    bid: Msat
    topup: Msat | None = None
    seen: AccountSeen | None = None


@record
class Bill:
    """A provider's event about one job of ours: who wrote it, for whom, when (Unix seconds).

    `sent_bytes` is how much of the answer had come in pieces of a job that we took back; None: we did not. `let_go`:
    its author had said by an error that it does not do the job.
    """

    author: str
    customer: str
    request: str
    signed_at: int
    sent_bytes: int | None = None
    let_go: bool = False


@dataclass(frozen=True, slots=True)
class Owed:
    """A request of ours that its provider may have charged for, and of which we have no receipt."""

    request: str
    kind: int
    offer: Offer


def usage_fault(bill: Bill, offer: Offer, result: JobResult) -> End | None:
    """What is wrong with a result's charge, by what it says it used and what was offered for it."""
    if result.account is None:
        return None
    if bill.let_go and result.account.charge_msat > 0:
        # Nothing was set aside for it any more.
        return UsageFault.AFTER_ERROR
    # Who counts nothing has nothing to charge for but the job itself.
    usage = result.usage or Usage(0, 0)
    fault = check_usage(usage, result.account.charge_msat, offer.listing.price, offer.bounds)
    if fault is None and result.finish is Finish.CANCELLED:
        return check_part(usage.completion_tokens, bill.sent_bytes)
    return fault


class Purse(Protocol):
    """What the client asks about money."""

    def width(self, listing: Listing) -> int | None:
        """How many jobs may be in flight to this provider; None is no limit of the purse's."""

    def barred(self, listing: Listing) -> str:
        """Why nothing may go there, in a few words for people, or empty: then something may, now or soon."""

    def funded(self, listing: Listing) -> bool:
        """Whether one more job would run there without a payment: on money that we left, or on trial credit."""

    def offer(self, listing: Listing, bounds: Bounds, *, bid: Msat, jobs_left: int, left: int | None = None) -> Offer:
        """What to offer for a job. `left` is what its run may still spend, in msat; None: any amount."""

    def ordered(self, request: str, kind: int, offer: Offer) -> Row | None:
        """A request is about to go out: what it may cost is to be on disk before. None: it is free."""

    async def unanswered(self, *, at_start: bool) -> list[Owed]:
        """Requests whose receipts are to be asked for: all at start, later those of accounts with a gap."""

    async def charged(self, requests: Sequence[str]) -> Mapping[str, int]:
        """What receipts charge for these requests, in msat: those that hold, and those that wait for others. Requests
        without one are left out."""

    async def pay(
        self, bill: Bill, offer: Offer, amount: Amount | None, *, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Pays what is asked, or raises `MoneyError`: then nothing was sent, or it failed.

        A payment that has to wait for another is made only as long as the job is `wanted`.
        """

    def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Awaitable[Msat | None] | None:
        """Has a result's receipt booked. To be waited for: what was charged, or None when the relation with its
        provider has ended. None at once: it has no receipt, and its provider may charge for it yet."""
