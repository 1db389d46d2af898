"""The purse of a customer that keeps an account with every provider (see `docs/money.md`)."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pylon import log
from pylon.clock import Clock
from pylon.errors import MoneyError
from pylon.forever import forever
from pylon.jobs.answer import Amount
from pylon.jobs.result import JobResult
from pylon.money.accounts import mirror_store
from pylon.money.accounts import orders as order_store
from pylon.money.accounts.mirror import Outcome, Step
from pylon.money.accounts.orders import Ordered
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Bounds, quote_bound
from pylon.money.invoices.invoice import decode
from pylon.money.invoices.receiver import GRACE_S
from pylon.money.msat import ZERO, Msat, sats_text
from pylon.money.payment import Ask, Order, PaymentRefusedError, PaymentState, Refusal
from pylon.money.payments import store as payment_store
from pylon.money.payments.sender import Sender
from pylon.money.payments.store import Payment
from pylon.money.wallet import WalletCode
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.providers.listing import Listing
from pylon.swarm.rows import Row
from pylon.swarm.spending.means import Means
from pylon.swarm.spending.purse import Bill, Offer, Owed, usage_fault
from pylon.swarm.spending.relation import QUOTE_S, Relation
from pylon.swarm.spending.unpaid_invoices import UnpaidInvoices

logger = log.get("swarm")

CHECK_S = 3.0
# Refusals that a lookup or a receipt may lift: so long is an invoice kept before it counts as one we do not pay.
PASSING = frozenset({Refusal.TOPUP_IN_FLIGHT, Refusal.RECEIPTS_PENDING})
PASSING_S = 60.0
# Whoever is only looked at is not remembered: anybody can make up keys. Nothing is ever written into it.
_STRANGER = Relation()
# What did not turn up within a minute may when a relay is back.
SEEK_S = 60.0


@dataclass(slots=True, kw_only=True)
class AccountPurse:
    """`changed` is told of a provider to which more, or nothing, may go now. `run` names what all payments belong to;
    it is empty where they serve one run after another."""

    database: Database
    group: GroupCommit
    sender: Sender
    clock: Clock
    customer: str
    run: str
    changed: Callable[[str], None] = field(default=lambda _: None)
    _relations: defaultdict[str, Relation] = field(default_factory=lambda: defaultdict(Relation))
    _task: asyncio.Task[None] | None = None
    # Payments that are in the balances.
    _deposits: set[str] = field(default_factory=set)
    _sought_at: float = -math.inf
    _unpaid: UnpaidInvoices = field(init=False)
    _means: Means = field(init=False)

    def __post_init__(self) -> None:
        self._means = Means(self.sender, self.clock, self.run)
        # `changed` is set when there is somebody to hear of it.
        self._unpaid = UnpaidInvoices(
            self._relations, self.database, self.sender, self.clock, lambda one: self.changed(one)
        )

    async def start(self) -> None:
        """Takes up what the last process left: open payments are looked up, nothing is sent again."""
        await self.sender.recover()
        async with self.database.transaction() as tx:
            await mirror_store.resume(tx, self.clock.wall())
            await order_store.forget(tx, before=self.clock.wall() - order_store.KEEP_S)
        rows = await self.database.fetch_all("SELECT provider, count(*) AS n FROM money_claim GROUP BY provider")
        for row in rows:
            self._relations[row["provider"]].verified = row["n"]
        for provider, position in (await mirror_store.positions(self.database)).items():
            relation = self._relations[provider]
            relation.ended, relation.seen = position.ended, position.seen
            relation.suspended = position.suspended
            relation.balance, relation.asked = position.balance, position.asked
        now = self.clock.wall()
        for provider, quote in (await order_store.dearest(self.database, since=now - QUOTE_S)).items():
            self._relations[provider].quoted(quote, now)
        # They hold what they are sent until that invoice has run out.
        self._unpaid.take_up(await payment_store.unfunded(self.database, since=now - GRACE_S))
        await self._means.start()
        self._task = asyncio.create_task(forever(self._watch, "purse"), name="purse")

    async def close(self) -> None:
        """Stops; payments under way are finished by their sender."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def width(self, listing: Listing) -> int | None:
        """See `Purse`."""
        return self._relations.get(listing.provider, _STRANGER).width(listing.price)

    def barred(self, listing: Listing) -> str:
        """See `Purse`."""
        relation = self._relations.get(listing.provider, _STRANGER)
        left = relation.ended is not None or relation.suspended
        if left and relation.balance > 0:
            return f"{relation.barred}; {sats_text(relation.balance, self.sender.unit)} of ours are left there"
        return relation.barred

    def funded(self, listing: Listing) -> bool:
        """See `Purse`. Providers give a stranger one job on credit."""
        return self._relations.get(listing.provider, _STRANGER).funded

    def offer(self, listing: Listing, bounds: Bounds, *, bid: Msat, jobs_left: int, left: int | None = None) -> Offer:
        """See `Purse`."""
        relation = self._relations[listing.provider]
        quote = quote_bound(listing.price, bounds)
        if not quote:
            return Offer(listing, bounds, ZERO, ZERO, None, relation.seen)
        if left is not None:
            # No more is left with a provider than the run may still spend.
            jobs_left = min(jobs_left, max(1, left // int(quote)))
        width = relation.width(listing.price)
        most, affordable = self.sender.most, self._means.most()
        topup = relation.topup(quote, jobs_left=jobs_left, most=most, now=self.clock.wall(), affordable=affordable)
        if relation.width(listing.price) != width:
            # Our money there covers another number of jobs. Who hears of it may end jobs and send others: not while
            # the request is made that this offer is for.
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
            Owed(one.job, one.kind, Offer(Listing(one.provider, price=one.price), one.bounds, one.quote, one.quote))
            for one in orders
        ]

    def _sought(self, gaps: list[str]) -> list[str]:
        """Those whose receipts are asked for now: where these are missing for long, once in a while."""
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
        """See `Purse`. One whose outcome is unknown is neither: the job waits, and a lookup decides."""
        asked, invoice = (None, None) if amount is None else (amount.msat, amount.bolt11)
        # The pool hands over verified events only.
        ask = Ask(bill.author, bill.request, bill.customer, asked, invoice, verified=True)
        order = Order(
            bill.request, offer.listing.provider, self.customer, offer.quote, offer.bid, self.run, offer.topup
        )
        self._relations[bill.author].asked = True
        code = ""
        try:
            payment = await self._means.counted(asked or ZERO, self._pay(ask, order, wanted))
            if payment.state is PaymentState.FAILED:
                code = payment.reason
                raise MoneyError(self._why_failed(payment))
        except MoneyError as error:
            before = await self._payment(invoice, bill.author)
            if before is not None and before.state is not PaymentState.FAILED:
                # For another of the jobs that wait for it, or by a process that died since.
                return
            if isinstance(error, PaymentRefusedError):
                code = error.code.value
            if before is not None and code == Refusal.HASH_SEEN:
                # What kept it from being paid then is still the reason.
                code, error = before.reason, MoneyError(self._why_failed(before))
            self._unpaid.add(bill.author, invoice, asked or ZERO, code)
            raise error
        if payment.state is PaymentState.SETTLED:
            self._deposited(payment)

    def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Awaitable[Msat | None] | None:
        """See `Purse`. What was offered nothing needs no receipt."""
        receipt = result.account
        if receipt is None:
            return None if offer.quote else _nothing()
        observe = partial(
            mirror_store.observe, provider=bill.author, job=bill.request, receipt=receipt, quote=offer.quote,
            signed_at=bill.signed_at, now=self.clock.wall(), fault=usage_fault(bill, offer, result),
        )  # fmt: skip
        # Results come in crowds: what has gathered shares a flush.
        return self._booked(bill.author, receipt, self.group.submit(observe))

    async def _booked(self, provider: str, receipt: AccountReceipt, booking: Awaitable[Step]) -> Msat | None:
        step, relation = await booking, self._relations[provider]
        relation.ended, relation.suspended = step.mirror.ended, bool(step.mirror.suspended_until)
        if relation.ended is not None:
            logger.warning("nothing more goes to this provider", provider=provider, code=relation.ended.value)
            self.changed(provider)
            return None
        relation.seen = step.mirror.seen
        if step.outcome in (Outcome.ACCEPTED, Outcome.PENDING):
            relation.verified += 1
            relation.balance += int(step.found) - receipt.charge_msat
        self.changed(provider)
        return Msat(max(0, receipt.charge_msat))

    async def _pay(self, ask: Ask, order: Order, wanted: Callable[[], bool]) -> Payment:
        kept_until = self.clock.monotonic() + PASSING_S
        while True:
            try:
                return await self.sender.pay(ask, order)
            except PaymentRefusedError as refused:
                if refused.code not in PASSING or self.clock.monotonic() > kept_until or not wanted():
                    raise
            await asyncio.sleep(CHECK_S)
            if not wanted():
                raise MoneyError("nobody waits for this job any more")

    def _deposited(self, payment: Payment) -> None:
        """Counts a deposit. Whoever made it hears that it settled, and so may whoever looked it up meanwhile."""
        if payment.payment_hash in self._deposits:
            return
        self._deposits.add(payment.payment_hash)
        self._relations[payment.provider].balance += int(payment.amount)
        self.changed(payment.provider)

    async def _payment(self, invoice: str | None, provider: str) -> Payment | None:
        """What became of this very invoice of this provider, if it was ever to be paid."""
        try:
            payment = await payment_store.get(self.database, decode(invoice or "").payment_hash)
        except MoneyError:
            return None
        return payment if payment.provider == provider else None

    def _why_failed(self, payment: Payment) -> str:
        if payment.reason == WalletCode.INSUFFICIENT_BALANCE:
            amount = sats_text(payment.amount, self.sender.unit)
            return f"the wallet holds less than {amount}; `pylon wallet balance` says what it holds"
        return f"payment {payment.payment_hash} failed: {payment.reason or 'the wallet did not say why'}"

    async def _watch(self) -> None:
        await asyncio.sleep(CHECK_S)
        for payment in await self.sender.check():
            # What its owner had paid is left with no provider.
            if payment.state is PaymentState.SETTLED and not payment.by_hand:
                self._deposited(payment)
        await self._unpaid.look()
        await self._means.look()
        waiting = await mirror_store.waiting_providers(self.database)
        for provider in [one for one, relation in self._relations.items() if relation.suspended]:
            if provider not in waiting and self._relations[provider].suspended:
                # What was missing came as that was decided.
                self._relations[provider].suspended = False
                self.changed(provider)
        for provider in waiting:
            async with self.database.transaction() as tx:
                step = await mirror_store.tick(tx, provider, self.clock.wall())
            self._ticked(provider, step)

    def _ticked(self, provider: str, step: Step) -> None:
        relation, suspended = self._relations[provider], bool(step.mirror.suspended_until)
        relation.balance += int(step.found) - int(step.lost)
        if (step.mirror.ended, suspended) == (relation.ended, relation.suspended):
            return
        if suspended:
            logger.warning("receipts are missing: nothing goes to this provider for a while", provider=provider)
        elif step.lost:
            lost = sats_text(int(step.lost), self.sender.unit)
            logger.warning("an account goes on without what was missing", provider=provider, lost=lost)
        relation.ended, relation.suspended = step.mirror.ended, suspended
        relation.seen = step.mirror.seen
        self.changed(provider)


async def _nothing() -> Msat:
    return ZERO
