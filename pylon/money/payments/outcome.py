"""Determines the outcome of payments that were sent: by the wallet's answer, a lookup, or the owner's decision.

Each outcome is written in one transaction: the payment's row and its entries in the ledger.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from pylon import log
from pylon.clock import Clock
from pylon.money.books import ledger
from pylon.money.books.store import book
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import DECIDED, NEVER_SENT, Payment, not_before, resolve
from pylon.money.payments import decision as decisions
from pylon.money.payments import store as payment_store
from pylon.money.payments.decision import Decision
from pylon.money.states import PaymentState
from pylon.money.wallet import Lookup, Wallet, WalletCode, WalletError
from pylon.store.database import Database, Transaction

logger = log.get("money")

_ENDED = (PaymentState.SETTLED, PaymentState.FAILED)
# One bitcoin. A wallet that reports a larger fee errs; booked as it stands, a few of these would not fit into the
# 64 bits of a sum, and no later payment could be judged or booked. This much ends all spending by the limits.
_MOST_FEE = Msat.from_sats(100_000_000)


@dataclass(frozen=True, slots=True)
class Decided:
    """A payment after its owner's decision.

    `changed` says that its outcome was unknown until now. `by_wallet` says that the wallet, asked once more, gave the
    same outcome itself.
    """

    payment: Payment
    changed: bool
    by_wallet: bool = False


class PaymentOutcomes:
    """The outcomes of the payments of one wallet.

    Each payment that ends is reported once: by the call that has it in hand, or else by `check`.
    """

    def __init__(self, database: Database, wallet: Wallet, clock: Clock) -> None:
        self._in_hand: set[str] = set()
        # When those of this process were reserved, on the boot clock, which nobody sets.
        self._reserved: dict[str, float] = {}
        self._database = database
        self._wallet = wallet
        self._clock = clock
        # Payments that ended outside of `check`, which reports them the next time.
        self._ended: list[Payment] = []
        # How often the wallet did not answer about a payment.
        self._unanswered: Counter[str] = Counter()
        # An owner's decision and a lookup must not overlap: what has ended does not change.
        self._looking = asyncio.Lock()

    @contextmanager
    def in_hand(self, payment_hash: str) -> Iterator[None]:
        """While this block runs, this process is paying it: it is not recovered, looked up or decided on."""
        self._in_hand.add(payment_hash)
        self._reserved[payment_hash] = self._clock.boot()
        try:
            yield
        finally:
            self._in_hand.discard(payment_hash)

    async def recover(self) -> None:
        """Recovers the open payments of a process that died: reserved ones were never sent, others may have been."""
        states = (PaymentState.RESERVED, PaymentState.SENDING)
        async with self._database.transaction() as tx:
            for payment in await payment_store.in_state(tx, *states):
                if payment.payment_hash in self._in_hand:
                    continue
                if payment.state is PaymentState.RESERVED:
                    await self._move_in(tx, payment, PaymentState.FAILED, NEVER_SENT)
                else:
                    await self._move_in(tx, payment, PaymentState.UNKNOWN, "no_answer")

    async def check(self) -> list[Payment]:
        """Looks up every payment of unknown outcome; returns those that ended since the last call."""
        await self.look()
        ended, self._ended = self._ended, []
        return ended

    async def look(self) -> None:
        """Looks up every payment of unknown outcome, until the wallet does not answer; the next `check` reports those
        that ended."""
        states = (PaymentState.RESERVED, PaymentState.SENDING, PaymentState.UNKNOWN)
        found = await payment_store.in_state(self._database, *states)
        left = self._in_hand.union(payment.payment_hash for payment in found)
        self._reserved = {one: at for one, at in self._reserved.items() if one in left}
        # Those that the wallet did not answer about come last, so that they keep no other one from being looked up.
        for payment in sorted(found, key=lambda one: self._unanswered[one.payment_hash]):
            if payment.payment_hash in self._in_hand:
                continue
            async with self._looking:
                now = await payment_store.get(self._database, payment.payment_hash)
                if now.state is PaymentState.RESERVED:
                    # The step to `sending` could not be written, and so nothing was sent.
                    self._ended.append(await self.fail(now, NEVER_SENT))
                elif now.state not in _ENDED and not await self._look_up_open(now):
                    self._unanswered[now.payment_hash] += 1
                    # It would most likely answer none of the others, and each takes half a minute.
                    return

    async def decide(self, payment_hash: str, decision: Decision) -> Decided:
        """Writes the owner's decision on a payment of unknown outcome. The same decision again changes nothing.

        A decision without a preimage is written only after the wallet was asked once more. Raises
        `DecisionRefusedError`, and `MoneyError` where there is no such payment.
        """
        async with self._looking:
            payment = await payment_store.get(self._database, payment_hash)
            if not self._judge(payment, decision):
                return Decided(payment, changed=False)
            if not decision.preimage:
                await self._look_up_open(payment)
                payment = await payment_store.get(self._database, payment_hash)
                if payment.state is (PaymentState.SETTLED if decision.paid else PaymentState.FAILED):
                    return Decided(payment, changed=True, by_wallet=True)
                self._judge(payment, decision)
            async with self._database.transaction() as tx:
                if decision.paid:
                    await self._settle_in(tx, payment, decision.preimage, decision.fee, decided=True)
                else:
                    await self._move_in(tx, payment, PaymentState.FAILED, DECIDED)
            payment = await payment_store.get(self._database, payment_hash)
            self._ended.append(payment)
        logger.info(
            "the owner decided the outcome of a payment", payment=payment_hash, state=payment.state.value,
            proof=bool(payment.preimage),
        )  # fmt: skip
        return Decided(payment, changed=True)

    async def look_up(self, payment: Payment) -> Payment:
        """Looks up a payment that was sent and writes the outcome; unchanged where the wallet does not answer."""
        with suppress(WalletError):
            return await self._by_lookup(payment)
        return payment

    async def _by_lookup(self, payment: Payment) -> Payment:
        try:
            lookup = await self._ask(payment)
        except WalletError as error:
            logger.info("payment unknown, wallet does not say", payment=payment.payment_hash, code=error.code.value)
            raise
        verdict = resolve(lookup, payment, self._now(payment))
        match verdict.state:
            case PaymentState.SETTLED:
                return await self.settle(payment, lookup.preimage or "", lookup.fee)
            case PaymentState.FAILED:
                return await self.fail(payment, verdict.reason)
            case _ if payment.state is not PaymentState.UNKNOWN:
                return await self.leave_open(payment, verdict.reason)
            case _:
                return payment

    def _now(self, payment: Payment) -> float:
        """The time, in Unix seconds, by the clock as it was when this process reserved the payment.

        Setting it ahead does not end a payment that is under way, and setting it back does not keep one open.
        """
        reserved = self._reserved.get(payment.payment_hash)
        if reserved is None:
            return self._clock.wall()
        return payment.reserved_at + self._clock.boot() - reserved

    async def ask_fee(self, payment: Payment) -> Msat | None:
        """The routing fee by a lookup, for a wallet whose answer to a payment leaves it out; None if not told."""
        try:
            return (await self._ask(payment)).fee
        except WalletError:
            return None

    async def settle(self, payment: Payment, preimage: str, fee: Msat | None) -> Payment:
        """Writes that a payment was made, which `preimage` proves. A `fee` of None counts as zero."""
        async with self._database.transaction() as tx:
            await self._settle_in(tx, payment, preimage, ZERO if fee is None else min(fee, _MOST_FEE))
        if fee is not None and fee > payment.fee_limit:
            logger.warning("a payment's fee was above its limit", payment=payment.payment_hash, fee_msat=int(fee))
        return await payment_store.get(self._database, payment.payment_hash)

    async def fail(self, payment: Payment, reason: str) -> Payment:
        """Writes that a payment failed, for certain or presumably: its reservation no longer counts."""
        return await self._move(payment, PaymentState.FAILED, reason)

    async def leave_open(self, payment: Payment, reason: str) -> Payment:
        """Writes that the outcome of a payment is unknown."""
        return await self._move(payment, PaymentState.UNKNOWN, reason)

    async def _look_up_open(self, payment: Payment) -> bool:
        """Looks up a payment that nobody has in hand. Returns whether the wallet answered."""
        try:
            after = await self._by_lookup(payment)
        except WalletError as error:
            return error.code not in (WalletCode.UNREACHABLE, WalletCode.TIMEOUT)
        if after.state in _ENDED:
            self._ended.append(after)
        return True

    def _judge(self, payment: Payment, decision: Decision) -> bool:
        if payment.payment_hash in self._in_hand:
            payment = replace(payment, state=PaymentState.SENDING)
        return decisions.judge(decision, payment, self._now(payment))

    async def _ask(self, payment: Payment) -> Lookup:
        since = not_before(payment.invoice, payment.reserved_at)
        return await self._wallet.lookup(payment.payment_hash, since=since)

    async def _settle_in(
        self, tx: Transaction, payment: Payment, preimage: str, fee: Msat, *, decided: bool = False
    ) -> None:
        now = self._clock.wall()
        # A lookup beside the wallet's answer may have settled it before; then its ledger entries are there.
        if await payment_store.settle(tx, payment.payment_hash, preimage, fee, now, decided=decided):
            if payment.by_hand:
                entries = ledger.paid_by_hand(now, payment.payee, payment.payment_hash, payment.amount, fee)
            else:
                entries = ledger.topup_paid(now, payment.provider, payment.payment_hash, payment.amount, fee)
            await book(tx, entries)

    async def _move(self, payment: Payment, state: PaymentState, reason: str) -> Payment:
        async with self._database.transaction() as tx:
            await self._move_in(tx, payment, state, reason)
        return await payment_store.get(self._database, payment.payment_hash)

    async def _move_in(self, tx: Transaction, payment: Payment, state: PaymentState, reason: str) -> None:
        await payment_store.move(tx, payment.payment_hash, state, reason, self._clock.wall())
