"""Modelled relays: each takes events one after the other, and passes them on. They die, and they lose live events.

A relay's speed is a figure of the model (`EVENT_S`, `PUSH_S`), not a measurement; what is counted is exact.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylon.bench.simulation.agenda import Agenda

# One way between a peer and a relay: the mean; a message takes half as long to half as long again.
HOP_S = 0.04
# A relay's own time for an event it is sent, and for each copy of it that it sends on.
EVENT_S = 0.000_5
PUSH_S = 0.000_03
# The default of `Transport.publish`: when a publication nobody acknowledged has failed.
PUBLISH_S = 15.0
# How long a relay that is gone is not missed: its connections end, which takes a message's way.
MISSED_S = HOP_S
# An OK is an id, a word and a flag.
OK_BYTES = 90


@dataclass(slots=True)
class Traffic:
    """What relays were sent and sent on, of one kind of message."""

    events_in: int = 0
    events_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(slots=True)
class Relay:
    """`free_at` is when it has worked off what it was sent."""

    alive: bool = True
    free_at: float = 0.0
    busy_s: float = 0.0


def url(relay: int) -> str:
    """Its address, by which announcements and customers name it."""
    return f"ws://relay-{relay}.invalid"


@dataclass(slots=True)
class Network:
    """All relays of the simulation."""

    agenda: Agenda
    rng: random.Random
    relays: list[Relay]
    lost: float = 0.0
    traffic: dict[str, Traffic] = field(default_factory=dict)

    def die(self, count: int) -> None:
        """The first of them are gone."""
        for relay in self.relays[:count]:
            relay.alive = False

    def hop(self) -> float:
        """How long one message is under way."""
        return HOP_S * (0.5 + self.rng.random())

    def publish(
        self,
        relays: Sequence[int],
        what: str,
        size: int,
        *,
        readers: int = 1,
        once: bool = False,
        delivered: Callable[[bool], None],
        taken: Callable[[bool], None] | None = None,
    ) -> None:
        """Sends an event to relays. `taken` hears whether one said OK; `delivered` is called when the first copy is
        there, with whether the live push came through or has to be looked up. `once`: see `Transport.publish`."""
        taken_at = [self._pass_on(number, what, size, readers) for number in relays if self.relays[number].alive]
        if not taken_at:
            if taken is not None:
                self.agenda.after(MISSED_S if once else PUBLISH_S, lambda: taken(False))
            return
        first = min(taken_at)
        came = any(self.rng.random() >= self.lost for _ in taken_at)
        if taken is not None:
            self.agenda.at(first + self.hop(), lambda: taken(True))
        self.agenda.at(first + self.hop(), lambda: delivered(came))

    def query(self, what: str, asks: int, answers: int, size: int, then: Callable[[], None]) -> None:
        """Asks all live relays for stored events of `size` bytes, in `asks` bytes; `then` hears of the end."""
        done = [self._pass_on(n, what, asks, answers, size) for n, relay in enumerate(self.relays) if relay.alive]
        if done:
            self.agenda.at(max(done) + self.hop(), then)

    def _pass_on(self, number: int, what: str, size: int, readers: int, size_out: int | None = None) -> float:
        relay = self.relays[number]
        work = EVENT_S + readers * PUSH_S
        relay.free_at = max(relay.free_at, self.agenda.now + self.hop()) + work
        relay.busy_s += work
        counted = self.traffic.setdefault(what, Traffic())
        counted.events_in += 1
        counted.events_out += readers
        counted.bytes_in += size
        counted.bytes_out += readers * (size if size_out is None else size_out) + OK_BYTES
        return relay.free_at
