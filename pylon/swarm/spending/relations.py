"""Where a customer stands with each provider: taken up from the books, then moved on by whatever is booked.

Each deposit is told of once: by whoever paid it, or by a lookup of one that nobody has in hand any more.
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
from pylon.money.msat import sats_text
from pylon.money.payments.store import Payment
from pylon.store.database import Database
from pylon.swarm.spending.relation import QUOTE_S, Relation

logger = log.get("swarm")

# Whoever is only looked at is not remembered: anybody can make up keys. Nothing is ever written into it.
_STRANGER = Relation()


@dataclass(slots=True)
class Relations:
    """By provider. `changed` is told of one to which more, or nothing, may go now; `unit` is what money is called."""

    database: Database
    clock: Clock
    unit: str
    changed: Callable[[str], None]
    _known: defaultdict[str, Relation] = field(default_factory=lambda: defaultdict(Relation))

    def __getitem__(self, provider: str) -> Relation:
        """The relation with a provider, which begins here if there was none."""
        return self._known[provider]

    def __len__(self) -> int:
        return len(self._known)

    def seen(self, provider: str) -> Relation:
        """The same to look at: it may be a stranger's."""
        return self._known.get(provider, _STRANGER)

    def items(self) -> ItemsView[str, Relation]:
        """All there are, by provider."""
        return self._known.items()

    async def resume(self) -> None:
        """Takes up what the books say at start."""
        now = self.clock.wall()
        async with self.database.transaction() as tx:
            await mirror_store.resume(tx, now)
        for provider, verified in (await mirror_store.verified(self.database)).items():
            self[provider].verified = verified
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

    def booked(self, provider: str, receipt: AccountReceipt, step: Step) -> bool:
        """What a receipt came to is in the books; False where the relation has ended."""
        relation = self[provider]
        relation.ended, relation.suspended = step.mirror.ended, bool(step.mirror.suspended_until)
        if relation.ended is not None:
            logger.warning("nothing more is sent to this provider", provider=provider, code=relation.ended.value)
            self.changed(provider)
            return False
        relation.seen = step.mirror.seen
        if step.outcome in (Outcome.ACCEPTED, Outcome.PENDING):
            relation.verified += 1
            relation.balance += int(step.found) - receipt.charge_msat
        self.changed(provider)
        return True

    async def look(self) -> None:
        """Time passed: whose receipts are missing for long, and whose are not any more."""
        waiting = await mirror_store.waiting_providers(self.database)
        for provider in [one for one, relation in self.items() if relation.suspended]:
            if provider not in waiting and self[provider].suspended:
                # What was missing came as that was decided.
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
