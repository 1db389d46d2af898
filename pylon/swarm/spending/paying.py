"""Pays what a provider asks for a job: at once, once a passing obstacle is gone, or not at all, with the reason."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pylon.clock import Clock
from pylon.errors import MoneyError
from pylon.jobs.answer import Amount
from pylon.money.invoices.invoice import decode
from pylon.money.limits import Limit
from pylon.money.msat import ZERO, sats_text
from pylon.money.payment import Ask, Code, Order, Payment, PaymentRefusedError, Refusal
from pylon.money.payments import store as payment_store
from pylon.money.payments.sender import Sender
from pylon.money.states import PaymentState
from pylon.money.wallet import WalletCode
from pylon.store.database import Database
from pylon.swarm.spending.funds import Funds
from pylon.swarm.spending.purse import Bill, Offer
from pylon.swarm.spending.relations import Relations
from pylon.swarm.spending.unpaid_invoices import UnpaidInvoices

CHECK_S = 3.0
# For how many seconds a payment is tried again before it is refused, where a lookup or a receipt may lift the refusal
# or other payments may end. Most of these take less than a second; what takes longer may be held.
PASSING_S: dict[Code, float] = {
    Refusal.TOPUP_IN_FLIGHT: 60.0,
    Refusal.RECEIPTS_PENDING: 60.0,
    Limit.IN_FLIGHT: 10.0,
}


@dataclass(frozen=True, slots=True)
class Paying:
    """See the module. `run` names the run that all payments belong to."""

    database: Database
    sender: Sender
    clock: Clock
    customer: str
    run: str
    relations: Relations
    funds: Funds
    unpaid: UnpaidInvoices
    # Payments that wait for the place of another, in order.
    _waiting: deque[asyncio.Event] = field(default_factory=deque, init=False)

    async def pay(self, bill: Bill, offer: Offer, amount: Amount | None, wanted: Callable[[], bool]) -> None:
        """See `Purse`. A payment with an unknown outcome raises nothing: the job waits, and a lookup decides."""
        asked, invoice = (None, None) if amount is None else (amount.msat, amount.bolt11)
        # The pool hands over verified events only.
        ask = Ask(bill.author, bill.request, bill.customer, asked, invoice, verified=True)
        order = Order(
            bill.request, offer.listing.provider, self.customer, offer.quote, offer.bid, self.run, offer.topup
        )
        self.relations[bill.author].asked = True
        code = ""
        try:
            payment = await self.funds.counted(asked or ZERO, self._paid(ask, order, wanted))
            if payment.state is PaymentState.FAILED:
                code = payment.reason
                raise MoneyError(self._why_failed(payment))
        except MoneyError as error:
            before = await self._before(invoice, bill.author)
            if before is not None and before.state is not PaymentState.FAILED:
                # It was paid for another job that waits for the same invoice, or by an earlier process.
                return
            if isinstance(error, PaymentRefusedError):
                code = error.code.value
            if before is not None and code == Refusal.HASH_SEEN:
                # The reason why it was not paid then still holds.
                code, error = before.reason, MoneyError(self._why_failed(before))
            self.unpaid.add(bill.author, invoice, asked or ZERO, code)
            raise error
        if payment.state is PaymentState.SETTLED:
            self.relations.deposited(payment)

    async def _paid(self, ask: Ask, order: Order, wanted: Callable[[], bool]) -> Payment:
        began_at = self.clock.monotonic()
        while True:
            try:
                payment = await self.sender.pay(ask, order)
            except PaymentRefusedError as refused:
                waited_s = self.clock.monotonic() - began_at
                if waited_s > PASSING_S.get(refused.code, -1.0) or not wanted():
                    raise
                why = refused.code
            else:
                if self._waiting:
                    self._waiting.popleft().set()
                return payment
            if why is Limit.IN_FLIGHT:
                await self._place()
            else:
                await asyncio.sleep(CHECK_S)
            if not wanted():
                raise MoneyError("this job no longer needs an answer")

    async def _place(self) -> None:
        """Waits until another payment has ended, and no longer than `CHECK_S`: some are not made for this purse."""
        ended = asyncio.Event()
        self._waiting.append(ended)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await ended.wait()
        finally:
            if not ended.is_set():
                self._waiting.remove(ended)

    async def _before(self, invoice: str | None, provider: str) -> Payment | None:
        """The earlier payment of this invoice to this provider; None if there was none."""
        try:
            payment = await payment_store.get(self.database, decode(invoice or "").payment_hash)
        except MoneyError:
            return None
        return payment if payment.provider == provider else None

    def _why_failed(self, payment: Payment) -> str:
        if payment.reason == WalletCode.INSUFFICIENT_BALANCE:
            amount = sats_text(payment.amount, self.sender.unit)
            return f"the wallet holds less than {amount}; `pylon wallet balance` shows how much"
        return f"payment {payment.payment_hash} failed: {payment.reason or 'the wallet gave no reason'}"
