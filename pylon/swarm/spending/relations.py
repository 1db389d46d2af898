"""The relations with all providers: read from the books at start, then updated by each booking.

Each deposit is reported once: by the payer, or by a lookup of a payment that no process handles any more.
"""

from collections import defaultdict
from collections.abc import Callable, ItemsView
from dataclasses import dataclass, field

from pylon import log
from pylon.clock import Clock
from pylon.money.accounts import mirror_store
from pylon.money.accounts import orders as order_store
from pylon.money.accounts.mirror import Outcome, Step
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.msat import Msat, sats_text
from pylon.money.payment import Payment
from pylon.store.database import Database
from pylon.swarm.spending.relation import QUOTE_S, Relation

logger = log.get("swarm")

# Read for providers without a relation, and never written to: anybody can make keys, so none is made on a look.
_STRANGER = Relation()


@dataclass(slots=True)
class Relations:
    """See the module. `changed` is called with a provider whose width has changed; `unit` is the unit of money."""

    database: Database
    clock: Clock
    unit: str
    changed: Callable[[str], None]
    _known: defaultdict[str, Relation] = field(default_factory=lambda: defaultdict(Relation))

    def __getitem__(self, provider: str) -> Relation:
        """The relation with a provider, which is made if there is none."""
        return self._known[provider]

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, provider: str) -> Relation:
        """The relation with a provider for reading only: an empty one for a stranger."""
        return self._known.get(provider, _STRANGER)

    def items(self) -> ItemsView[str, Relation]:
        """All relations, by provider."""
        return self._known.items()

    async def resume(self) -> None:
        """Reads the books at start."""
        now = self.clock.wall()
        async with self.database.transaction() as tx:
            await mirror_store.resume(tx, now)
        for provider, done in (await mirror_store.done(self.database)).items():
            self[provider].done = done
        for provider, position in (await mirror_store.positions(self.database)).items():
            relation = self[provider]
            relation.ended, relation.seen = position.ended, position.seen
            relation.suspended = position.suspended
            relation.balance, relation.asked = position.balance, position.asked
        for provider, quote in (await order_store.dearest(self.database, since=now - QUOTE_S)).items():
            self[provider].quoted(quote, now)

    def deposited(self, payment: Payment) -> None:
        """A payment to a provider is settled."""
        self[payment.provider].balance += int(payment.amount)
        self.changed(payment.provider)

    def booked(self, provider: str, quote: Msat, receipt: AccountReceipt, step: Step) -> bool:
        """Updates a relation after the receipt of a job of this quote was booked; False if the relation has ended."""
        relation = self[provider]
        relation.ended, relation.suspended = step.mirror.ended, bool(step.mirror.suspended_until)
        if relation.ended is not None:
            logger.warning("nothing more is sent to this provider", provider=provider, code=relation.ended.value)
            self.changed(provider)
            return False
        relation.seen = step.mirror.seen
        if step.outcome in (Outcome.ACCEPTED, Outcome.PENDING):
            relation.done += int(quote)
            relation.balance += int(step.found) - receipt.charge_msat
        self.changed(provider)
        return True

    async def look(self) -> None:
        """Suspends providers whose receipts have been missing for long, and resumes those whose receipts came."""
        waiting = await mirror_store.waiting_providers(self.database)
        for provider in [one for one, relation in self.items() if relation.suspended]:
            if provider not in waiting and self[provider].suspended:
                # The missing receipt came while the suspension was being decided.
                self[provider].suspended = False
                self.changed(provider)
        for provider in waiting:
            async with self.database.transaction() as tx:
                step = await mirror_store.tick(tx, provider, self.clock.wall())
            self._ticked(provider, step)

    def _ticked(self, provider: str, step: Step) -> None:
        relation, suspended = self[provider], bool(step.mirror.suspended_until)
        relation.balance += int(step.found) - int(step.lost)
        if (step.mirror.ended, suspended) == (relation.ended, relation.suspended):
            return
        if suspended:
            logger.warning("receipts are missing: nothing is sent to this provider for a while", provider=provider)
        elif step.lost:
            lost = sats_text(int(step.lost), self.unit)
            logger.warning("an account continues without the missing receipts", provider=provider, lost=lost)
        relation.ended, relation.suspended = step.mirror.ended, suspended
        relation.seen = step.mirror.seen
        self.changed(provider)
