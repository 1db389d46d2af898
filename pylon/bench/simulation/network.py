"""Modelled relays: each takes one event after the other and passes it on. Relays can die, and lose live events.

Their speed is an assumption of the model (`EVENT_S`, `PUSH_S`), not a measurement. The counts are exact.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylon.bench.simulation.clock import SimulatedClock

# Mean seconds between a peer and a relay, one way; a message takes 0.5 to 1.5 times as long.
HOP_S = 0.04
# Seconds of a relay for each event that it receives, and for each copy that it sends on.
EVENT_S = 0.000_5
PUSH_S = 0.000_03
# Seconds until an unacknowledged publication has failed, as by default in `Transport.publish`.
PUBLISH_S = 15.0
# Seconds until peers know that a relay is gone: its connections end, which takes as long as a message.
MISSED_S = HOP_S
# Bytes of an OK: an event id, a flag and an empty message.
OK_BYTES = 90


@dataclass(slots=True)
class Traffic:
    """Events and bytes that relays received and sent on, of one kind of message."""

    events_in: int = 0
    events_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(slots=True)
class Relay:
    """`free_at` is when it has handled all events that it was sent, `busy_s` its working time so far."""

    alive: bool = True
    free_at: float = 0.0
    busy_s: float = 0.0


def url(relay: int) -> str:
    """The address of a relay."""
    return f"ws://relay-{relay}.invalid"


@dataclass(slots=True)
class Network:
    """All relays of the simulation. `lost` is the share of live events that never arrive."""

    clock: SimulatedClock
    rng: random.Random
    relays: list[Relay]
    lost: float = 0.0
    traffic: dict[str, Traffic] = field(default_factory=dict)

    def die(self, count: int) -> None:
        """Kills the first `count` relays."""
        for relay in self.relays[:count]:
            relay.alive = False

    def hop(self) -> float:
        """Seconds of one message on its way, drawn at random."""
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
        """Sends an event to relays.

        `taken` is called with whether one of them said OK. `delivered` is called when the first copy reaches the
        readers, with False if the live event was lost and has to be queried. `once`: see `Transport.publish`.
        """
        taken_at = [self._pass_on(number, what, size, readers) for number in relays if self.relays[number].alive]
        if not taken_at:
            if taken is not None:
                self.clock.after(MISSED_S if once else PUBLISH_S, lambda: taken(False))
            return
        first = min(taken_at)
        came = any(self.rng.random() >= self.lost for _ in taken_at)
        if taken is not None:
            self.clock.at(first + self.hop(), lambda: taken(True))
        self.clock.at(first + self.hop(), lambda: delivered(came))

    def query(self, what: str, asks: int, answers: int, size: int, then: Callable[[], None]) -> None:
        """Queries all live relays with `asks` bytes. Each sends `answers` events of `size` bytes."""
        done = [self._pass_on(n, what, asks, answers, size) for n, relay in enumerate(self.relays) if relay.alive]
        if done:
            self.clock.at(max(done) + self.hop(), then)

    def _pass_on(self, number: int, what: str, size: int, readers: int, size_out: int | None = None) -> float:
        relay = self.relays[number]
        work = EVENT_S + readers * PUSH_S
        relay.free_at = max(relay.free_at, self.clock.now + self.hop()) + work
        relay.busy_s += work
        counted = self.traffic.setdefault(what, Traffic())
        counted.events_in += 1
        counted.events_out += readers
        counted.bytes_in += size
        counted.bytes_out += readers * (size if size_out is None else size_out) + OK_BYTES
        return relay.free_at
