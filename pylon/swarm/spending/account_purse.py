"""The purse of a customer that keeps an account with every provider (see `docs/money.md`)."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pylon.clock import Clock
from pylon.forever import forever
from pylon.jobs.answer import Amount
from pylon.jobs.result import JobResult
from pylon.money.accounts import mirror_store
from pylon.money.accounts import orders as order_store
from pylon.money.accounts.mirror import Claim, Step
from pylon.money.accounts.orders import Ordered
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Bounds, quote_bound
from pylon.money.invoices.receiver import GRACE_S
from pylon.money.msat import ZERO, Msat, sats_text
from pylon.money.payments import store as payment_store
from pylon.money.payments.sender import Sender
from pylon.money.states import PaymentState
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.providers.listing import Listing
from pylon.swarm.rows import Row
from pylon.swarm.spending import paying
from pylon.swarm.spending.funds import Funds
from pylon.swarm.spending.paying import Paying
from pylon.swarm.spending.purse import Bill, Offer, Owed, usage_fault
from pylon.swarm.spending.relations import Relations
from pylon.swarm.spending.unpaid_invoices import UnpaidInvoices
from pylon.tasks import Tasks

# Seconds between queries for receipts that have been missing for long: a relay may come back.
SEEK_S = 60.0


@dataclass(slots=True, kw_only=True)
class AccountPurse:
    """See `Purse`. `changed` is called with a provider whose width has changed. `run` names the run that all payments
    belong to; empty if they serve one run after another."""

    database: Database
    group: GroupCommit
    sender: Sender
    clock: Clock
    customer: str
    run: str
    changed: Callable[[str], None] = field(default=lambda _: None)
    _tasks: Tasks = field(init=False, default_factory=Tasks)
    _sought_at: float = -math.inf
    _relations: Relations = field(init=False)
    _unpaid: UnpaidInvoices = field(init=False)
    _funds: Funds = field(init=False)
    _paying: Paying = field(init=False)

    def __post_init__(self) -> None:
        database, sender, clock = self.database, self.sender, self.clock
        self._funds = Funds(sender, clock, self.run)
        # Looked up at each call: `changed` is set later.
        self._relations = Relations(database, clock, sender.unit, lambda one: self.changed(one))
        self._unpaid = UnpaidInvoices(self._relations, database, sender, clock)
        self._paying = Paying(
            database, sender, clock, self.customer, self.run, self._relations, self._funds, self._unpaid
        )

    async def start(self) -> None:
        """Takes up what the last process left: looks up open payments; nothing is sent again."""
        await self.sender.recover()
        now = self.clock.wall()
        async with self.database.transaction() as tx:
            await order_store.forget_old(tx, now=now)
        await self._relations.resume()
        # These providers hold what they are sent until their invoice expires.
        self._unpaid.take_up(await payment_store.unfunded(self.database, since=now - GRACE_S))
        await self._funds.start()
        self._tasks.start(forever(self._watch, "purse"), "purse")

    async def close(self) -> None:
        """Stops; payments under way are finished by their sender."""
        await self._tasks.close()

    def width(self, listing: Listing) -> int | None:
        """See `Purse`."""
        return self._relations.seen(listing.provider).width(listing.price)

    def barred(self, listing: Listing) -> str:
        """See `Purse`."""
        relation = self._relations.seen(listing.provider)
        left = relation.ended is not None or relation.suspended
        if left and relation.balance > 0:
            return f"{relation.barred}; {sats_text(relation.balance, self.sender.unit)} of our money is left there"
        return relation.barred

    def funded(self, listing: Listing) -> bool:
        """See `Purse`. Providers give a stranger one job on credit."""
        return self._relations.seen(listing.provider).funded

    def offer(self, listing: Listing, bounds: Bounds, *, bid: Msat, jobs_left: int, left: int | None = None) -> Offer:
        """See `Purse`."""
        relation = self._relations[listing.provider]
        quote = quote_bound(listing.price, bounds)
        if not quote:
            return Offer(listing, bounds, ZERO, ZERO, None, relation.seen)
        if left is not None:
            # The deposit is not larger than what the run may still spend.
            jobs_left = min(jobs_left, max(1, left // int(quote)))
        width = relation.width(listing.price)
        most, affordable = self.sender.most, self._funds.most()
        topup = relation.topup(quote, jobs_left=jobs_left, most=most, now=self.clock.wall(), affordable=affordable)
        if relation.width(listing.price) != width:
            # Our money there covers another number of jobs now. Whoever is told may end jobs and send others, which
            # must not happen while the request for this offer is being made.
            asyncio.get_running_loop().call_soon(self.changed, listing.provider)
        return Offer(listing, bounds, quote, bid, topup, relation.seen)

    def ordered(self, request: str, kind: int, offer: Offer) -> Row | None:
        """See `Purse`. What is free needs no row."""
        if not offer.quote:
            return None
        listing = offer.listing
        order = Ordered(request, listing.provider, kind, offer.quote, listing.price, offer.bounds, self.clock.wall())
        return Row(self.group, order_store.INSERT, order.row)

    async def unanswered(self, *, at_start: bool) -> list[Owed]:
        """See `Purse`."""
        gaps = None if at_start else await mirror_store.waiting_providers(self.database)
        if gaps is not None:
            gaps = self._sought(gaps)
        if gaps == []:
            return []
        since = self.clock.wall() - order_store.KEEP_S
        orders = await order_store.unanswered(self.database, since=since, providers=gaps)
        return [
            Owed(
                one.job,
                one.kind,
                Offer(Listing(one.provider, price=one.price), one.bounds, one.quote, one.quote),
                one.at,
            )
            for one in orders
        ]

    def _sought(self, gaps: list[str]) -> list[str]:
        """The providers whose receipts are asked for now; suspended ones only once in a while."""
        now = self.clock.monotonic()
        if now - self._sought_at >= SEEK_S:
            self._sought_at = now
            return gaps
        return [provider for provider in gaps if not self._relations[provider].suspended]

    async def charged(self, requests: Sequence[str]) -> Mapping[str, int]:
        """See `Purse`."""
        return await mirror_store.charged(self.database, requests)

    async def pay(
        self, bill: Bill, offer: Offer, amount: Amount | None, *, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """See `Purse`."""
        await self._paying.pay(bill, offer, amount, wanted)

    def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Awaitable[Msat | None] | None:
        """See `Purse`. A result of a free job needs no receipt."""
        receipt = result.account
        if receipt is None:
            return None if offer.quote else _nothing()
        now = self.clock.wall()
        claim = Claim(receipt, bill.request, offer.quote, min(bill.signed_at, now), now)
        fault = usage_fault(bill, offer, result)
        observe = partial(mirror_store.observe, provider=bill.author, claim=claim, fault=fault)
        # Results come in crowds: what has gathered shares a flush.
        return self._booked(bill.author, offer.quote, receipt, self.group.submit(observe))

    async def _booked(
        self, provider: str, quote: Msat, receipt: AccountReceipt, booking: Awaitable[Step]
    ) -> Msat | None:
        if not self._relations.booked(provider, quote, receipt, await booking):
            return None
        return Msat(max(0, receipt.charge_msat))

    async def _watch(self) -> None:
        await asyncio.sleep(paying.CHECK_S)
        for payment in await self.sender.check():
            # A payment that the owner made by hand is no deposit.
            if payment.state is PaymentState.SETTLED and not payment.by_hand:
                self._relations.deposited(payment)
        await self._unpaid.look()
        await self._funds.look()
        await self._relations.look()


async def _nothing() -> Msat:
    return ZERO
