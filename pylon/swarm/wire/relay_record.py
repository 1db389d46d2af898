"""Which relays do not carry what they are given, as far as this customer saw. Monotonic seconds in, decisions out.

A request that met silence over one relay and was answered when it came over another was lost by the first, or its
answer was. A relay that loses often is drawn less: not at all for a while, where another is shared, and then tried.
So is one that refuses requests (`rate-limited`, `blocked`), or leaves them without an OK.
"""

# The newest outcome counts for so much: a handful of losses decides, a single one does not.
_WEIGHT = 0.1
# From this share of losses on a relay is avoided, for so long since the last one.
_MUCH = 0.25
AVOIDED_S = 300.0
# So long nothing goes over one that refused, or gave no OK. Most relays that bound a rate count by the minute.
PAUSE_S = 60.0


class RelayRecord:
    """See the module."""

    def __init__(self) -> None:
        # Of relays that ever lost anything: the share of late, and when they did last.
        self._lost: dict[str, tuple[float, float]] = {}
        # When relays last refused something, or gave no OK.
        self._not_taken: dict[str, float] = {}

    def delivered(self, relay: str) -> None:
        """A request over it was answered."""
        if self._lost and (known := self._lost.get(relay)) is not None:
            self._lost[relay] = (known[0] * (1.0 - _WEIGHT), known[1])

    def lost(self, relay: str, now: float) -> None:
        """A request over it met silence, and was answered over another."""
        share, _ = self._lost.get(relay, (0.0, now))
        self._lost[relay] = (share + _WEIGHT * (1.0 - share), now)

    def refused(self, relay: str, now: float) -> None:
        """It did not take a request, and said so."""
        self._not_taken[relay] = now

    def silent(self, relay: str, now: float) -> None:
        """It gave no OK. However many requests wait for that when it stalls, this counts as one loss."""
        if relay not in self.avoided(now):
            self.lost(relay, now)
            self._not_taken[relay] = now

    def avoided(self, now: float) -> frozenset[str]:
        """Over these goes nothing now that may go another way."""
        if not self._lost and not self._not_taken:
            return frozenset()
        losing = (relay for relay, (share, at) in self._lost.items() if share >= _MUCH and now - at < AVOIDED_S)
        paused = (relay for relay, at in self._not_taken.items() if now - at < PAUSE_S)
        return frozenset(losing).union(paused)
