"""Which relays to avoid for a while, judged by what became of this customer's requests. Pure: monotonic seconds in.

When a request met silence over one relay and was answered after it went over another, the first relay lost it, or
lost its answer. A relay that loses often is avoided for a while, where the provider shares another, and then tried
again. So is a relay that refuses requests (`rate-limited`, `blocked`), or does not acknowledge them.
`invalid` (NIP-01) is often said of one event alone: a relay is avoided from the second one that it refuses so, with
none accepted between.
"""

# The weight of the newest outcome in the moving share of losses: three losses in a row decide, one does not.
_WEIGHT = 0.1
# From this share of losses a relay is avoided, for AVOIDED_S after its last loss.
_MUCH = 0.25
AVOIDED_S = 300.0
# How long a relay is avoided that refused a request, or did not acknowledge it. Most rate limits are by the minute.
PAUSE_S = 60.0


class RelayRecord:
    """What is remembered of each relay."""

    def __init__(self) -> None:
        # By relay that ever lost anything: its recent share of losses, and when the last one was.
        self._lost: dict[str, tuple[float, float]] = {}
        # When each relay last refused a request, or did not acknowledge one.
        self._not_taken: dict[str, float] = {}
        # Those that called the last event `invalid`, and accepted none since.
        self._called_invalid: set[str] = set()

    def delivered(self, relay: str) -> None:
        """A request over this relay was answered."""
        if self._lost and (known := self._lost.get(relay)) is not None:
            self._lost[relay] = (known[0] * (1.0 - _WEIGHT), known[1])

    def lost(self, relay: str, now: float) -> None:
        """A request over this relay met silence, and was answered over another."""
        share, _ = self._lost.get(relay, (0.0, now))
        self._lost[relay] = (share + _WEIGHT * (1.0 - share), now)

    def accepted(self, relay: str) -> None:
        """The relay accepted a request."""
        self._called_invalid.discard(relay)

    def refused(self, relay: str, now: float, *, invalid: bool = False) -> None:
        """The relay refused a request; `invalid`: it said that of the event."""
        if invalid and relay not in self._called_invalid:
            self._called_invalid.add(relay)
            return
        self._not_taken[relay] = now

    def silent(self, relay: str, now: float) -> None:
        """The relay did not acknowledge a request. When it stalls with many requests, they count as one loss."""
        if relay not in self.avoided(now):
            self.lost(relay, now)
            self._not_taken[relay] = now

    def avoided(self, now: float) -> frozenset[str]:
        """The relays that nothing goes over now that can go another way."""
        if not self._lost and not self._not_taken:
            return frozenset()
        losing = (relay for relay, (share, at) in self._lost.items() if share >= _MUCH and now - at < AVOIDED_S)
        paused = (relay for relay, at in self._not_taken.items() if now - at < PAUSE_S)
        return frozenset(losing).union(paused)
