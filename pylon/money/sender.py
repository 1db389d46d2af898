"""Paying: reserve, send, settle; each step is in the database before the next is taken.

    reserved ─► sending ─► settled     the preimage proves it
        │          ├─────► failed      the wallet refused, or a lookup says so
        │          └─────► unknown     no answer: the reservation stays until a lookup decides
        └────────────────► failed      the process died before anything was sent

Nothing is ever sent twice: a payment whose outcome is unknown blocks its job and its provider until it is known.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pylon import log
from pylon.clock import Clock
from pylon.money import invoice as invoices
from pylon.money import ledger, payee_store, payment_store
from pylon.money.ledger_store import book
from pylon.money.limits import Caps, Spend, allow
from pylon.money.msat import ZERO, Msat
from pylon.money.network import Network
from pylon.money.payment import (
    BY_HAND,
    Ask,
    Order,
    PaymentRefusedError,
    PaymentState,
    Refusal,
    judge_amount,
    judge_ask,
    judge_known,
    not_before,
    resolve,
)
from pylon.money.payment_store import Payment
from pylon.money.wallet import Lookup, PayState, Wallet, WalletCode, WalletError, proves
from pylon.nostr import nip19
from pylon.store.database import Database, Transaction

logger = log.get("money")


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """What is allowed here. `live` allows live money; `stopped` says whether STOP is there."""

    network: Network
    caps: Caps
    stopped: Callable[[], bool]
    live: bool = False


class Sender:
    """Pays invoices out of one wallet."""

    def __init__(self, database: Database, wallet: Wallet, policy: SendPolicy, clock: Clock) -> None:
        self._database = database
        self._wallet = wallet
        self._policy = policy
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()
        self._under_way: set[str] = set()

    @property
    def is_stopped(self) -> bool:
        """Whether the STOP file halts all spending."""
        return self._policy.stopped()

    async def balance(self) -> Msat:
        """What the wallet holds. Raises `WalletError`."""
        return await self._wallet.balance()

    async def pay(self, ask: Ask, order: Order) -> Payment:
        """Pays when every condition holds; where the payment stands afterwards.

        Raises `PaymentRefusedError`; then nothing was reserved or sent. A caller that is cancelled does not cancel
        the payment: it goes on, and its row tells.
        """
        reserving = self._begin(self._reserve(ask, order))
        try:
            payment = await asyncio.shield(reserving)
        except asyncio.CancelledError:
            # It may be written all the same, and would count until the next start.
            self._begin(self._lift(reserving))
            raise
        return await self._go_on(self._send(payment))

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
        """At start, before anything is paid: what a dead process left open."""
        async with self._database.transaction() as tx:
            for payment in await payment_store.in_state(tx, PaymentState.RESERVED):
                await payment_store.fail(tx, payment.payment_hash, "never_sent", self._clock.wall())
        return await self.check()

    async def check(self) -> list[Payment]:
        """Looks up every payment of unknown outcome; those that ended now. Call it every few seconds."""
        ended: list[Payment] = []
        states = (PaymentState.SENDING, PaymentState.UNKNOWN)
        for payment in await payment_store.in_state(self._database, *states):
            if payment.payment_hash not in self._under_way:
                after = await self._look_up(payment)
                if after.state in (PaymentState.SETTLED, PaymentState.FAILED):
                    ended.append(after)
        return ended

    async def close(self) -> None:
        """Waits for payments that are under way; their wallet calls end by themselves."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the steps --------------------------------------------------------------------------------------------

    async def _reserve(self, ask: Ask, order: Order) -> Payment:
        policy = self._policy
        if policy.stopped():
            raise PaymentRefusedError(Refusal.STOPPED, "the STOP file halts all spending")
        if policy.network.is_live and not policy.live:
            raise PaymentRefusedError(Refusal.NOT_LIVE, "live money is not allowed here")
        refusal = judge_ask(ask, order)
        if refusal is not None:
            raise PaymentRefusedError(refusal)
        now = self._clock.wall()
        try:
            invoice = invoices.decode(ask.invoice or "")
            amount = invoices.check(invoice, network=policy.network, now=now)
        except invoices.InvoiceError as error:
            raise PaymentRefusedError(error.code, str(error)) from error
        refusal = judge_amount(amount, ask, order)
        if refusal is not None:
            raise PaymentRefusedError(refusal)
        spend = Spend(amount, policy.caps.fee, order.job, order.provider, order.run, order.by_hand)
        # Judged and reserved in one transaction: whatever runs beside this sees the reservation, or comes first.
        async with self._database.transaction() as tx:
            known = await payment_store.known(tx, invoice, order, now)
            refusal = judge_known(invoice, order, known)
            if refusal is None:
                limit = allow(policy.caps, await payment_store.used(tx, spend, now), spend)
                if limit is not None:
                    raise PaymentRefusedError(limit)
                return await payment_store.reserve(tx, invoice, spend, now)
            if refusal is Refusal.PAYEE_CHANGED:
                await payee_store.offered(tx, order.provider, invoice.payee, now)
        # Not before the transaction has ended: what was offered is kept although nothing is paid.
        raise PaymentRefusedError(refusal, _other_payee(order.provider) if refusal is Refusal.PAYEE_CHANGED else "")

    async def _lift(self, reserving: "asyncio.Task[Payment]") -> None:
        with suppress(PaymentRefusedError):
            await self._fail(await reserving, "never_sent")

    async def _send(self, payment: Payment) -> Payment:
        self._under_way.add(payment.payment_hash)
        try:
            async with self._database.transaction() as tx:
                await payment_store.move(tx, payment.payment_hash, PaymentState.SENDING, "", self._clock.wall())
            result = await self._wallet.pay(payment.invoice, fee_limit=payment.fee_limit)
            if result.state is PayState.SETTLED and proves(result.preimage, payment.payment_hash):
                fee = result.fee if result.fee is not None else await self._ask_fee(payment)
                return await self._settle(payment, result.preimage or "", fee)
            # Its answer to a payment is not its last word on it; only a lookup is.
            if result.state is PayState.FAILED and result.code is not WalletCode.PAYMENT_FAILED:
                return await self._fail(payment, result.code.value if result.code else "failed")
            reason = "preimage_wrong" if result.state is PayState.SETTLED else ""
            payment = await self._leave_open(payment, reason or (result.code.value if result.code else "no_answer"))
            return await self._look_up(payment)
        finally:
            self._under_way.discard(payment.payment_hash)

    async def _look_up(self, payment: Payment) -> Payment:
        try:
            lookup = await self._ask(payment)
        except WalletError as error:
            logger.info("payment unknown, wallet does not say", payment=payment.payment_hash, code=error.code.value)
            return payment
        verdict = resolve(lookup, payment.payment_hash, expires_at=payment.expires_at, now=self._clock.wall())
        match verdict.state:
            case PaymentState.SETTLED:
                return await self._settle(payment, lookup.preimage or "", lookup.fee)
            case PaymentState.FAILED:
                return await self._fail(payment, verdict.reason)
            case _ if payment.state is not PaymentState.UNKNOWN:
                return await self._leave_open(payment, verdict.reason)
            case _:
                return payment

    async def _ask(self, payment: Payment) -> Lookup:
        since = not_before(payment.invoice, payment.reserved_at)
        return await self._wallet.lookup(payment.payment_hash, since=since)

    async def _ask_fee(self, payment: Payment) -> Msat | None:
        # Some wallets leave the fee out of the answer to a payment and tell it in a lookup.
        try:
            return (await self._ask(payment)).fee
        except WalletError:
            return None

    async def _settle(self, payment: Payment, preimage: str, fee: Msat | None) -> Payment:
        now = self._clock.wall()
        async with self._database.transaction() as tx:
            await self._settle_in(tx, payment, preimage, ZERO if fee is None else fee, now)
        if fee is not None and fee > payment.fee_limit:
            logger.warning("a payment's fee was above its limit", payment=payment.payment_hash, fee_msat=int(fee))
        return await payment_store.get(self._database, payment.payment_hash)

    async def _settle_in(self, tx: Transaction, payment: Payment, preimage: str, fee: Msat, now: float) -> None:
        # Somebody else may have settled it since (a lookup beside the answer); its ledger entries are there then.
        if await payment_store.settle(tx, payment.payment_hash, preimage, fee, now):
            booked, party = (
                (ledger.paid_by_hand, payment.payee) if payment.by_hand else (ledger.topup_paid, payment.provider)
            )
            await book(tx, booked(now, party, payment.payment_hash, payment.amount, fee))

    async def _fail(self, payment: Payment, reason: str) -> Payment:
        async with self._database.transaction() as tx:
            await payment_store.fail(tx, payment.payment_hash, reason, self._clock.wall())
        return await payment_store.get(self._database, payment.payment_hash)

    async def _leave_open(self, payment: Payment, reason: str) -> Payment:
        async with self._database.transaction() as tx:
            await payment_store.move(tx, payment.payment_hash, PaymentState.UNKNOWN, reason, self._clock.wall())
        return await payment_store.get(self._database, payment.payment_hash)

    async def _go_on(self, work: Coroutine[Any, Any, Payment]) -> Payment:
        # A cancelled caller must not leave a sent payment without somebody who hears the answer.
        return await asyncio.shield(self._begin(work))

    def _begin[T](self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _other_payee(provider: str) -> str:
    return (
        f"nothing was paid, since it asks to be paid to another node than before ({Refusal.PAYEE_CHANGED.value});"
        f" `pylon wallet trust-payee {nip19.npub(provider)}` shows both, and has it paid from then on"
    )
