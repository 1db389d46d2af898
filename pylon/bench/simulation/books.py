"""A modelled customer's money: the shipped relation, mirror and usage check, and a wallet that only takes time."""

from dataclasses import dataclass, field

from pylon.bench.simulation.messages import Result
from pylon.bench.simulation.world import World
from pylon.money.accounts import following
from pylon.money.accounts import mirror as ledger
from pylon.money.accounts.mirror import Claim, Mirror, Paid
from pylon.money.accounts.usage import Bounds, check_usage, quote_bound
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import ZERO, Msat
from pylon.swarm.providers.listing import Listing
from pylon.swarm.spending.purse import Offer
from pylon.swarm.spending.relation import Relation

# Seconds of a Lightning payment: the median, and the spread of its logarithm. Assumptions of the model.
PAY_S = 0.7
PAY_SPREAD = 0.5
# Payments at once, as many as the shipped sender has; others wait their turn.
AT_ONCE = 20


@dataclass(slots=True)
class Books:
    """One customer's accounts with all providers.

    `width`, `funded` and `offer` are those of `swarm.spending.purse.Purse`.
    """

    world: World
    bid: Msat
    _relations: dict[str, Relation] = field(default_factory=dict)
    _mirrors: dict[str, Mirror] = field(default_factory=dict)
    _paid: dict[str, Paid] = field(default_factory=dict)
    # The time at which each of the payments at once is settled.
    _free_at: list[float] = field(default_factory=lambda: [0.0] * AT_ONCE)

    def relation(self, provider: str) -> Relation:
        return self._relations.setdefault(provider, Relation())

    def width(self, listing: Listing) -> int | None:
        """See `swarm.spending.purse.Purse`."""
        return self.relation(listing.provider).width(listing.price)

    def funded(self, listing: Listing) -> bool:
        """See `swarm.spending.purse.Purse`."""
        return self.relation(listing.provider).funded

    def offer(self, listing: Listing, bounds: Bounds, *, jobs_left: int) -> Offer:
        """See `swarm.spending.purse.Purse`."""
        relation = self.relation(listing.provider)
        quote = quote_bound(listing.price, bounds)
        topup = relation.topup(quote, jobs_left=jobs_left, most=PLAY_CAPS.payment, now=self.world.clock.wall)
        return Offer(listing, bounds, quote, self.bid, topup, relation.seen)

    def may_pay(self, offer: Offer, amount: Msat) -> bool:
        """Whether an invoice is within the offer, and the provider owes no receipt and has shown no fault."""
        mirror = self._mirrors.get(offer.listing.provider, Mirror())
        owes_receipts = mirror.ended is not None or bool(mirror.waiting) or mirror.short
        return not owes_receipts and amount <= max(offer.quote + 999, offer.topup or ZERO)

    def payment_s(self) -> float:
        """Starts a payment; seconds until it is settled."""
        now = self.world.clock.now
        way = min(range(AT_ONCE), key=self._free_at.__getitem__)
        begins = max(now, self._free_at[way])
        self._free_at[way] = begins + PAY_S * self.world.spread(PAY_SPREAD)
        return self._free_at[way] - now

    def paid(self, provider: str, amount: Msat) -> None:
        """Books a settled payment."""
        before, now = self._paid.get(provider, Paid()), self.world.clock.wall
        recent = tuple(payment for payment in before.recent if payment[0] > now - ledger.CREDIT_PATIENCE_S)
        self._paid[provider] = Paid(before.settled + amount, (*recent, (now, amount)))
        self.relation(provider).balance += int(amount)
        self.world.tally.topups += 1
        self.world.tally.paid_msat += int(amount)

    def accept(self, offer: Offer, request: str, result: Result) -> bool:
        """Books the receipt of a result; False if it shows a fault, which ends the relation."""
        receipt, now = result.receipt, self.world.clock.wall
        if receipt is None:
            return True
        provider = offer.listing.provider
        mirror = self._mirrors.get(provider, Mirror())
        claim = Claim(receipt, request, offer.quote, now, now)
        step = following.observe(mirror, claim, self._paid.get(provider, Paid()))
        fault = check_usage(result.usage, receipt.charge_msat, offer.listing.price, offer.bounds)
        after = step.mirror if fault is None else following.end(step.mirror, fault)
        self._mirrors[provider] = after
        relation = self.relation(provider)
        relation.ended = after.ended
        if after.ended is not None:
            return False
        relation.seen = after.seen
        relation.done += int(offer.quote)
        relation.balance -= receipt.charge_msat
        return True
