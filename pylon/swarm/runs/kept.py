"""What an earlier process left of a run: its answers, and requests that may still be answered or charged."""

from collections.abc import Mapping
from dataclasses import dataclass

from pylon.money.accounts.usage import Bounds
from pylon.money.msat import ZERO, Msat
from pylon.money.price import Price
from pylon.records import record
from pylon.swarm.dispatch.in_flight import LAPSE_S
from pylon.swarm.flights import Back, Flight
from pylon.swarm.job import Answer
from pylon.swarm.providers.listing import Listing
from pylon.swarm.spending.charge import Charge
from pylon.swarm.spending.purse import Offer


@record
class Sent:
    """A request that may have been published. `place` is None for a second opinion; `quote` None if no offer was
    made.

    `expires_at` is in Unix seconds. If it was `taken_back`, its provider was told to stop.
    """

    request: str
    place: int | None
    provider: str
    kind: int
    created_at: int
    expires_at: float
    quote: Msat | None
    topup: Msat | None
    bid: Msat
    bounds: Bounds
    price: Price
    taken_back: bool = False

    def flight(self, slot: int, attempt: int, now: float, wall: float, *, before: Msat = ZERO) -> Flight:
        """The flight of this request, as if this process had sent it. `now` is monotonic, `wall` Unix seconds;
        `before` is what its receipt is known to charge."""
        offer = None
        if self.quote is not None:
            offer = Offer(Listing(self.provider, price=self.price), self.bounds, self.quote, self.bid, self.topup)
        age_s = max(0.0, wall - self.created_at)
        return Flight(
            self.request, self.kind, slot, attempt, self.provider, self.created_at, now, offer,
            back=Back.BEFORE if self.taken_back else Back.PERHAPS, age_s=age_s, charge=Charge(before),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """Answers by place; the requests of places without one, and all others that may cost something; all request
    ids."""

    answers: dict[int, Answer]
    sent: tuple[Sent, ...]
    requests: tuple[str, ...] = ()

    def open_at(self, wall: float) -> dict[int, Sent]:
        """By place, the latest request that has not expired; one that was taken back only if there is no other."""
        found: dict[int, Sent] = {}
        for sent in self.sent:
            if sent.place is None or sent.place in self.answers or sent.expires_at <= wall:
                continue
            before = found.get(sent.place)
            if before is None or before.taken_back or not sent.taken_back:
                found[sent.place] = sent
        return found

    def owed(self, wall: float, charged: Mapping[str, int]) -> list[Sent]:
        """Requests that are not open, and for which a receipt may still come. `charged` are those that have one."""
        open_ = {sent.request for sent in self.open_at(wall).values()}
        return [
            sent
            for sent in self.sent
            if sent.quote
            and sent.expires_at + LAPSE_S > wall
            and sent.request not in charged
            and sent.request not in open_
        ]

    @property
    def opinions(self) -> int:
        """How many requests for a second opinion were sent, repetitions included."""
        return sum(sent.place is None for sent in self.sent)
