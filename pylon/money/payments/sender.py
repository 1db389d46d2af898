"""Paying: reserve, send, settle; each step is in the database before the next is taken.

    reserved ─► sending ─► settled     the preimage proves it
        │          ├─────► failed      the wallet refused, or a lookup says so
        │          └─────► unknown     no answer: the reservation stays until a lookup or its owner decides
        └────────────────► failed      the process died before anything was sent

Nothing is ever sent twice: a payment whose outcome is unknown blocks its job and its provider until it is known.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from pylon.clock import Clock
from pylon.money.invoices import invoice as invoices
from pylon.money.limits import Caps, Spend, allow, room
from pylon.money.msat import ZERO, Msat
from pylon.money.network import Network
from pylon.money.payment import (
    BY_HAND,
    Ask,
    Order,
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
from pylon.money.payments.store import Payment
from pylon.money.states import PaymentState
from pylon.money.wallet import PayState, Wallet, WalletCode, proves
from pylon.nostr.bech32 import nip19
from pylon.store.database import Database
from pylon.tasks import Tasks


class Policy(Protocol):
    """What is allowed here, asked anew for each payment. `live` allows live money; `stopped` says whether STOP is
    there."""

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
    """One that stays as it is."""

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
        # Whoever asked for one may be gone when it fails.
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
        """What the money of this wallet is called."""
        return self._policy.network.unit

    async def balance(self) -> Msat:
        """What the wallet holds. Raises `WalletError`."""
        return await self._wallet.balance()

    async def room(self, run: str) -> Msat:
        """The largest payment that the limits leave for a run, without its fee: for a new job and provider."""
        caps = self._policy.caps
        spend = Spend(ZERO, caps.fee, "", "", run)
        return room(caps, await payment_store.used(self._database, spend, self._clock.wall()), spend)

    async def pay(self, ask: Ask, order: Order) -> Payment:
        """Pays when every condition holds; where the payment stands afterwards.

        Raises `PaymentRefusedError`; then nothing was reserved or sent. A caller that is cancelled does not cancel
        the payment: it goes on, and its row tells.
        """
        gone = asyncio.Event()
        try:
            return await asyncio.shield(self._payments.start(self._pay(ask, order, gone), order.job))
        except asyncio.CancelledError:
            gone.set()
            raise

    async def pay_by_hand(self, text: str, *, most: Msat) -> Payment:
        """Pays an invoice that the owner named, of at most `most`; all conditions hold, and all limits but those of a
        provider and a run, which would never end.

        Each payee has an account of its own in the ledger, which is no provider's. Raises `PaymentRefusedError`.
        """
        try:
            invoice = invoices.decode(text)
        except invoices.InvoiceError as error:
            raise PaymentRefusedError(error.code, str(error)) from error
        owner, payee, job = "owner", f"{BY_HAND}{invoice.payee}", f"invoice:{invoice.payment_hash}"
        ask = Ask(payee, job, owner, invoice.amount, text, verified=True)
        return await self.pay(ask, Order(job, payee, owner, quote=most, bid=most, run=owner, by_hand=True))

    async def recover(self) -> list[Payment]:
        """At start, before anything is paid: what a dead process left open; those that ended by a lookup now."""
        await self.outcomes.recover()
        return await self.check()

    async def check(self) -> list[Payment]:
        """Looks up every payment of unknown outcome; those that ended now. Call it every few seconds."""
        return await self.outcomes.check()

    async def look(self, *, within_s: float) -> None:
        """Looks them up as `check` does, which tells of those that ended; what takes longer goes on beside."""
        looking = self._looks.start(self.outcomes.look(), "a look at payments")
        await asyncio.wait({looking}, timeout=within_s)
        if looking.done():
            looking.result()

    async def decide(self, payment_hash: str, decision: Decision) -> Decided:
        """Takes the owner's word for what became of a payment; see `PaymentOutcomes`. A caller that is cancelled
        does not cancel it."""
        return await asyncio.shield(self._payments.start(self.outcomes.decide(payment_hash, decision), payment_hash))

    async def close(self) -> None:
        """Waits for payments that are under way; their wallet calls end by themselves."""
        await self._looks.close()
        await self._payments.wait()

    # --- the steps --------------------------------------------------------------------------------------------

    async def _pay(self, ask: Ask, order: Order, gone: asyncio.Event) -> Payment:
        with ExitStack() as hands:
            payment = await self._reserve(ask, order, hands)
            if gone.is_set():
                # Nobody waits for it, and it would count until the next start.
                return await self.outcomes.fail(payment, "never_sent")
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
        except invoices.InvoiceError as error:
            raise PaymentRefusedError(error.code, str(error)) from error
        refusal = judge_amount(amount, ask, order)
        if refusal is not None:
            raise refused(refusal)
        spend = Spend(amount, caps.fee, order.job, order.provider, order.run, order.by_hand)
        # Judged and reserved in one transaction: whatever runs beside this sees the reservation, or comes first.
        async with self._database.transaction() as tx:
            known = await payment_store.known(tx, invoice, order, now)
            refusal = judge_known(invoice, order, known)
            if refusal is None:
                limit = allow(caps, await payment_store.used(tx, spend, now), spend)
                if limit is not None:
                    raise refused(limit)
                payment = await payment_store.reserve(tx, invoice, spend, now)
                # Before it is committed: whoever takes up what a dead process left, leaves this one alone.
                hands.enter_context(self.outcomes.in_hand(payment.payment_hash))
                return payment
            if refusal is Refusal.PAYEE_CHANGED:
                await payee_store.offered(tx, order.provider, invoice.payee, now)
        # Not before the transaction has ended: what was offered is kept although nothing is paid.
        raise refused(refusal, _other_payee(order.provider) if refusal is Refusal.PAYEE_CHANGED else "")

    async def _send(self, payment: Payment) -> Payment:
        outcomes = self.outcomes
        async with self._database.transaction() as tx:
            # Raises where it was ended meanwhile: then nothing may be sent.
            await payment_store.move(tx, payment.payment_hash, PaymentState.SENDING, "", self._clock.wall())
        result = await self._wallet.pay(payment.invoice, fee_limit=payment.fee_limit)
        if result.state is PayState.SETTLED and proves(result.preimage, payment.payment_hash):
            fee = result.fee if result.fee is not None else await outcomes.ask_fee(payment)
            return await outcomes.settle(payment, result.preimage or "", fee)
        # Its answer to a payment is not its last word on it; only a lookup is.
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
