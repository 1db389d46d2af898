"""Pays invoices: reserve, send, settle. Each step is in the database before the next is taken.

    reserved ─► sending ─► settled     the preimage proves it
        │          ├─────► failed      the wallet refused, or a lookup says so
        │          └─────► unknown     no answer: the reservation stays until a lookup or its owner decides
        └────────────────► failed      the process died before anything was sent

Nothing is ever sent twice: a payment of unknown outcome blocks its job and its provider until the outcome is known.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from pylon.clock import Clock
from pylon.money.invoices import invoice as invoices
from pylon.money.invoices import second_opinion
from pylon.money.limits import Caps, Spend, allow, room
from pylon.money.msat import ZERO, Msat
from pylon.money.network import Network
from pylon.money.payment import (
    BY_HAND,
    NEVER_SENT,
    Ask,
    Order,
    Payment,
    PaymentRefusedError,
    Refusal,
    judge_amount,
    judge_ask,
    judge_known,
)
from pylon.money.payments import payees as payee_store
from pylon.money.payments import store as payment_store
from pylon.money.payments.decision import Decision, DecisionRefusedError
from pylon.money.payments.outcome import Decided, PaymentOutcomes
from pylon.money.payments.refused import WHY, refused
from pylon.money.states import PaymentState
from pylon.money.wallet import PayState, Wallet, WalletCode, WalletError, not_sent, proves
from pylon.nostr.bech32 import nip19
from pylon.store.database import Database
from pylon.tasks import Tasks


class Policy(Protocol):
    """What may be paid; read anew for each payment. `live` allows live money; `stopped()` says whether there is a
    STOP file."""

    @property
    def network(self) -> Network: ...

    @property
    def caps(self) -> Caps: ...

    @property
    def live(self) -> bool: ...

    @property
    def stopped(self) -> Callable[[], bool]: ...


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """A policy that does not change."""

    network: Network
    caps: Caps
    stopped: Callable[[], bool]
    live: bool = False


class Sender:
    """Pays invoices out of one wallet."""

    def __init__(self, database: Database, wallet: Wallet, policy: Policy, clock: Clock) -> None:
        self._database = database
        self._wallet = wallet
        self._policy = policy
        self._clock = clock
        # The caller may have been cancelled by the time a payment is refused.
        self._payments = Tasks("a payment failed", expected=(PaymentRefusedError, DecisionRefusedError))
        self._looks = Tasks("payments could not be looked up")
        self.outcomes = PaymentOutcomes(database, wallet, clock)

    @property
    def is_stopped(self) -> bool:
        """Whether the STOP file halts all spending."""
        return self._policy.stopped()

    @property
    def most(self) -> Msat:
        """The most that one payment may be, without its fee."""
        return self._policy.caps.payment

    @property
    def most_fee(self) -> Msat:
        """The most that the fee of one payment may be."""
        return self._policy.caps.fee

    @property
    def unit(self) -> str:
        """What amounts of this wallet's network are called."""
        return self._policy.network.unit

    async def balance(self) -> Msat:
        """What the wallet holds. Raises `WalletError`."""
        return await self._wallet.balance()

    async def room(self, run: str) -> Msat:
        """The largest payment, without its fee, that the limits allow a run for a new job at a new provider."""
        caps = self._policy.caps
        spend = Spend(ZERO, caps.fee, "", "", run)
        return room(caps, await payment_store.used(self._database, spend, self._clock.wall()), spend)

    async def pay(self, ask: Ask, order: Order) -> Payment:
        """Pays an invoice if every condition holds, and returns the payment as it then stands.

        Raises `PaymentRefusedError`; then nothing was reserved or sent. Cancelling the caller does not cancel a
        payment that is being sent: its row has the outcome.
        """
        gone = asyncio.Event()
        try:
            return await asyncio.shield(self._payments.start(self._pay(ask, order, gone), order.job))
        except asyncio.CancelledError:
            gone.set()
            raise

    async def pay_by_hand(self, text: str, *, most: Msat) -> Payment:
        """Pays an invoice that the owner named, of `most` at the most.

        All conditions and limits apply but those of a provider, which nobody would work off, and of a run. In the
        ledger each payee has an account of its own, apart from providers. Raises `PaymentRefusedError`.
        """
        try:
            invoice = invoices.decode(text)
        except invoices.InvoiceError as error:
            raise PaymentRefusedError(error.code, str(error)) from error
        owner, payee, job = "owner", f"{BY_HAND}{invoice.payee}", f"invoice:{invoice.payment_hash}"
        ask = Ask(payee, job, owner, invoice.amount, text, verified=True)
        return await self.pay(ask, Order(job, payee, owner, quote=most, bid=most, run=owner, by_hand=True))

    async def recover(self) -> list[Payment]:
        """Recovers the payments that a dead process left open, at start, before anything is paid; returns those that
        a lookup ended."""
        await self.outcomes.recover()
        return await self.check()

    async def check(self) -> list[Payment]:
        """Looks up every payment of unknown outcome; returns those that ended. To be called every few seconds."""
        return await self.outcomes.check()

    async def look(self, *, within_s: float) -> None:
        """Looks up payments of unknown outcome for `within_s` seconds; the rest goes on in the background.

        The next `check` reports those that ended.
        """
        looking = self._looks.start(self.outcomes.look(), "a look at payments")
        await asyncio.wait({looking}, timeout=within_s)
        if looking.done():
            looking.result()

    async def decide(self, payment_hash: str, decision: Decision) -> Decided:
        """Writes the owner's decision on a payment; see `PaymentOutcomes.decide`. Cancelling the caller does not
        cancel it."""
        return await asyncio.shield(self._payments.start(self.outcomes.decide(payment_hash, decision), payment_hash))

    async def close(self) -> None:
        """Waits for the payments that are under way; their calls to the wallet have time limits."""
        await self._looks.close()
        await self._payments.wait()

    # --- the steps --------------------------------------------------------------------------------------------

    async def _pay(self, ask: Ask, order: Order, gone: asyncio.Event) -> Payment:
        with ExitStack() as hands:
            payment = await self._reserve(ask, order, hands)
            if gone.is_set():
                # The caller is gone. The reservation would count against the limits until the next start.
                return await self.outcomes.fail(payment, NEVER_SENT)
            return await self._send(payment)

    async def _reserve(self, ask: Ask, order: Order, hands: ExitStack) -> Payment:
        policy, caps = self._policy, self._policy.caps
        if policy.stopped():
            raise refused(Refusal.STOPPED)
        if policy.network.is_live and not policy.live:
            raise refused(Refusal.NOT_LIVE)
        refusal = judge_ask(ask, order)
        if refusal is not None:
            raise refused(refusal)
        now = self._clock.wall()
        try:
            invoice = invoices.decode(ask.invoice or "")
            longest_s = math.inf if order.by_hand else invoices.LONGEST_S
            amount = invoices.check(invoice, network=policy.network, now=now, longest_s=longest_s)
            second_opinion.confirm(invoice)
        except invoices.InvoiceError as error:
            raise PaymentRefusedError(error.code, str(error)) from error
        refusal = judge_amount(amount, ask, order)
        if refusal is not None:
            raise refused(refusal)
        spend = Spend(amount, caps.fee, order.job, order.provider, order.run, order.by_hand)
        # Judged and reserved in one transaction: a concurrent payment sees the reservation, or is reserved before it.
        async with self._database.transaction() as tx:
            known = await payment_store.known(tx, invoice, order, now)
            refusal = judge_known(invoice, order, known)
            if refusal is None:
                limit = allow(caps, await payment_store.used(tx, spend, now), spend)
                if limit is not None:
                    raise refused(limit)
                payment = await payment_store.reserve(tx, invoice, spend, now)
                # Before the commit, so that `recover` never takes it for the payment of a dead process.
                hands.enter_context(self.outcomes.in_hand(payment.payment_hash))
                return payment
            if refusal is Refusal.PAYEE_CHANGED:
                await payee_store.offered(tx, order.provider, invoice.payee, now)
        # Raised after the transaction, so that the payee's offer is kept although nothing is paid.
        raise refused(refusal, _other_payee(order.provider) if refusal is Refusal.PAYEE_CHANGED else "")

    async def _send(self, payment: Payment) -> Payment:
        outcomes = self.outcomes
        try:
            # It may take seconds, in which the machine may fall asleep: before the last look at the clock.
            await self._wallet.ready()
        except WalletError as error:
            return await outcomes.fail(payment, not_sent(error).value)
        async with self._database.transaction() as tx:
            # Raises if the payment has ended meanwhile: then nothing may be sent.
            await payment_store.move(tx, payment.payment_hash, PaymentState.SENDING, "", self._clock.wall())
        if payment.expires_at <= self._clock.wall():
            # The machine slept since it was reserved. A wallet would say PAYMENT_FAILED, which proves nothing: until
            # a lookup decides, ten minutes later, this provider would be paid nothing else.
            return await outcomes.fail(payment, NEVER_SENT)
        result = await self._wallet.pay(payment.invoice, fee_limit=payment.fee_limit)
        if result.state is PayState.SETTLED and proves(result.preimage, payment.payment_hash):
            fee = result.fee if result.fee is not None else await outcomes.ask_fee(payment)
            return await outcomes.settle(payment, result.preimage or "", fee)
        # PAYMENT_FAILED is not final: NIP-47 lets it cover time-outs. Only a lookup decides.
        if result.state is PayState.FAILED and result.code is not WalletCode.PAYMENT_FAILED:
            return await outcomes.fail(payment, result.code.value if result.code else "failed")
        reason = "preimage_wrong" if result.state is PayState.SETTLED else ""
        payment = await outcomes.leave_open(payment, reason or (result.code.value if result.code else "no_answer"))
        return await outcomes.look_up(payment)


def _other_payee(provider: str) -> str:
    return (
        f"{WHY[Refusal.PAYEE_CHANGED]}; `pylon wallet trust-payee {nip19.npub(provider)}` shows "
        "both nodes and lets you accept the new one"
    )
