"""Unpaid invoices: a provider whose invoice was not paid is left alone until it expires, and then asked again.

Jobs wait again for a provider that an empty wallet kept from being paid, once the wallet is filled. Where no payment
was tried, because of STOP or a changed payee, the next job pays the same invoice: such a provider is asked as soon as
the obstacle is gone. The wallet is asked for its balance a few times a minute at most, and only while that matters.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.money.invoices.invoice import InvoiceError, decode
from pylon.money.invoices.receiver import GRACE_S
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import Payment
from pylon.money.payments import payees as payee_store
from pylon.money.payments.sender import Sender
from pylon.money.wallet import WalletError
from pylon.store.database import Database
from pylon.swarm.providers.lack import STOPPED, UNFUNDED
from pylon.swarm.spending.relation import Relation
from pylon.swarm.spending.relations import Relations
from pylon.swarm.spending.unpaid import LASTING, OTHER_PAYEE

# Seconds between questions to a wallet that held too little: shorter than jobs wait for a provider.
WALLET_S = 5.0
# Bounds, in seconds, on how long an unpaid invoice keeps a provider from being asked, whatever expiry it states.
LEAST_UNPAID_S, MOST_UNPAID_S = 60.0, 900.0


@dataclass(slots=True)
class UnpaidInvoices:
    """See the module. Changes are reported through the relations."""

    relations: Relations
    database: Database
    sender: Sender
    clock: Clock
    # When the wallet may be asked again what it holds.
    _asks_at: float = 0.0
    # What it held when it was asked last.
    _held: Msat | None = None

    def add(self, provider: str, invoice: str | None, amount: Msat, code: str) -> None:
        """An invoice of this provider was not paid; `code` is the reason of the wallet, the limits or the refusal."""
        relation = self.relations[provider]
        relation.unpaid_until, relation.unpaid_why = self._runs_out(invoice), LASTING.get(code, "")
        relation.unpaid = amount
        self.relations.changed(provider)

    def take_up(self, payments: Iterable[Payment]) -> None:
        """Takes up payments that the last process lacked the money for: the wallet may have been filled since."""
        for payment in payments:
            relation = self.relations[payment.provider]
            relation.unpaid_until, relation.unpaid_why = self._gone(payment.expires_at), UNFUNDED
            relation.unpaid, self._held = payment.amount, ZERO

    async def look(self) -> None:
        """Lets providers be asked again whose invoice has expired, or can be paid by now."""
        self._forgive()
        for provider, relation in [] if self.sender.is_stopped else self._unpaid(STOPPED):
            self._ask_again(provider, relation)
        if (short := self._unpaid(UNFUNDED)) and self.clock.monotonic() >= self._asks_at:
            self._asks_at = self.clock.monotonic() + WALLET_S
            for provider, relation in self._covered(short, await self._balance()):
                relation.unpaid_why = ""
                self.relations.changed(provider)
        await self._ask_trusted()

    async def _ask_trusted(self) -> None:
        if not (swapped := self._unpaid(OTHER_PAYEE)):
            return
        untrusted = await payee_store.untrusted(self.database)
        for provider, relation in swapped:
            if provider not in untrusted:
                self._ask_again(provider, relation)

    def _ask_again(self, provider: str, relation: Relation) -> None:
        relation.unpaid_until, relation.unpaid_why = 0.0, ""
        self.relations.changed(provider)

    def _forgive(self) -> None:
        now = self.clock.boot()
        for provider, relation in self.relations.items():
            if 0.0 < relation.unpaid_until <= now:
                relation.unpaid_until = 0.0
                self.relations.changed(provider)

    def _unpaid(self, why: str) -> list[tuple[str, Relation]]:
        return [(key, one) for key, one in self.relations.items() if one.unpaid_until and one.unpaid_why == why]

    async def _balance(self) -> Msat:
        try:
            async with asyncio.timeout(WALLET_S):
                return await self.sender.balance()
        except (WalletError, TimeoutError):
            return self._held or ZERO

    def _covered(self, short: list[tuple[str, Relation]], holds: Msat) -> list[tuple[str, Relation]]:
        """The providers that can be paid, if the wallet holds more than when it was too little."""
        # With fees and reserves a wallet may refuse what it seems to hold, so only a larger balance counts.
        more = self._held is not None and holds > self._held
        self._held = holds
        found: list[tuple[str, Relation]] = []
        for provider, relation in short if more else ():
            if relation.unpaid <= holds:
                holds = Msat(holds - relation.unpaid)
                found.append((provider, relation))
        return found

    def _runs_out(self, invoice: str | None) -> float:
        """When the provider will have dropped the invoice, in seconds of `Clock.boot`."""
        least = self.clock.boot() + LEAST_UNPAID_S
        try:
            return max(self._gone(decode(invoice or "").expires_at), least)
        except InvoiceError:
            return least

    def _gone(self, expires_at: float) -> float:
        left = min(expires_at + GRACE_S - self.clock.wall(), MOST_UNPAID_S)
        return self.clock.boot() + max(0.0, left)
