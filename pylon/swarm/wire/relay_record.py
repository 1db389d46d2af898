"""Which relays do not carry what they are given, as far as this customer saw. Monotonic seconds in, decisions out.

A request that met silence over one relay and was answered when it came over another was lost by the first, or its
answer was. A relay that loses often is drawn less: not at all for a while, where another is shared, and then tried.
So is one that says itself that it takes no more now (`rate-limited`).
"""

# The newest outcome counts for so much: a handful of losses decides, a single one does not.
_WEIGHT = 0.1
# From this share of losses on a relay is avoided, for so long since the last one.
_MUCH = 0.25
AVOIDED_S = 300.0
# Most relays that bound a rate count by the minute.
PAUSE_S = 60.0


class RelayRecord:
    """See the module."""

    def __init__(self) -> None:
        # Of relays that ever lost anything: the share of late, and when they did last.
        self._lost: dict[str, tuple[float, float]] = {}
        # When relays said last that they take no more.
        self._slowed: dict[str, float] = {}

    def delivered(self, relay: str) -> None:
        """A request over it was answered."""
        if self._lost and (known := self._lost.get(relay)) is not None:
            self._lost[relay] = (known[0] * (1.0 - _WEIGHT), known[1])

    def lost(self, relay: str, now: float) -> None:
        """A request over it met silence, and was answered over another."""
        share, _ = self._lost.get(relay, (0.0, now))
        self._lost[relay] = (share + _WEIGHT * (1.0 - share), now)

    def slowed(self, relay: str, now: float) -> None:
        """It took no more."""
        self._slowed[relay] = now

    def avoided(self, now: float) -> frozenset[str]:
        """Over these goes nothing now that may go another way."""
        if not self._lost and not self._slowed:
            return frozenset()
        losing = (relay for relay, (share, at) in self._lost.items() if share >= _MUCH and now - at < AVOIDED_S)
        slow = (relay for relay, at in self._slowed.items() if now - at < PAUSE_S)
        return frozenset(losing).union(slow)
