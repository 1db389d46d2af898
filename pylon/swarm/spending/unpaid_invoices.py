"""Providers whose invoice was not paid: left alone while they hold what waits for it, and asked again after that.

Whom an empty wallet kept from being paid is waited for again once it is filled. Where nothing was tried, since STOP
or another payee forbade it, the next job pays that very invoice: such a provider is asked at once when that is over.
The wallet is asked what it holds a few times a minute at most, and only while somebody waits for it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.money.invoices.invoice import InvoiceError, decode
from pylon.money.invoices.receiver import GRACE_S
from pylon.money.msat import ZERO, Msat
from pylon.money.payments import payees as payee_store
from pylon.money.payments.sender import Sender
from pylon.money.payments.store import Payment
from pylon.money.wallet import WalletError
from pylon.store.database import Database
from pylon.swarm.providers.lack import STOPPED, UNFUNDED
from pylon.swarm.spending.relation import Relation
from pylon.swarm.spending.relations import Relations
from pylon.swarm.spending.unpaid import LASTING, OTHER_PAYEE

# So often a wallet that held too little is asked what it holds now: more often than jobs give up waiting for anybody.
WALLET_S = 5.0
# A provider is asked again when the invoice that we did not pay is gone there, however long it says that it lasts.
LEAST_UNPAID_S, MOST_UNPAID_S = 60.0, 900.0


@dataclass(slots=True)
class UnpaidInvoices:
    """The relations tell of a provider that is left alone from now on, or not any more."""

    relations: Relations
    database: Database
    sender: Sender
    clock: Clock
    # When the wallet may be asked again what it holds.
    _asks_at: float = 0.0
    # What it held when it was asked last.
    _held: Msat | None = None

    def add(self, provider: str, invoice: str | None, amount: Msat, code: str) -> None:
        """Nothing was paid of what it asked for; `code` says why, as wallets and limits do."""
        relation = self.relations[provider]
        relation.unpaid_until, relation.unpaid_why = self._runs_out(invoice), LASTING.get(code, "")
        relation.unpaid = amount
        self.relations.changed(provider)

    def take_up(self, payments: Iterable[Payment]) -> None:
        """The last process could not pay these: whether the wallet was filled since is asked."""
        for payment in payments:
            relation = self.relations[payment.provider]
            relation.unpaid_until, relation.unpaid_why = self._gone(payment.expires_at), UNFUNDED
            relation.unpaid, self._held = payment.amount, ZERO

    async def look(self) -> None:
        """Whose time is over, and who can be paid by now, is waited for no longer."""
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
        """Those that can be paid of what the wallet holds more than it held when it was too little."""
        # With fees and reserves a wallet may refuse what it seems to hold: while it holds no more, nothing is new.
        more = self._held is not None and holds > self._held
        self._held = holds
        found: list[tuple[str, Relation]] = []
        for provider, relation in short if more else ():
            if relation.unpaid <= holds:
                holds = Msat(holds - relation.unpaid)
                found.append((provider, relation))
        return found

    def _runs_out(self, invoice: str | None) -> float:
        """When its provider has given up the invoice, by the clock that is never set."""
        least = self.clock.boot() + LEAST_UNPAID_S
        try:
            return max(self._gone(decode(invoice or "").expires_at), least)
        except InvoiceError:
            return least

    def _gone(self, expires_at: float) -> float:
        left = min(expires_at + GRACE_S - self.clock.wall(), MOST_UNPAID_S)
        return self.clock.boot() + max(0.0, left)
