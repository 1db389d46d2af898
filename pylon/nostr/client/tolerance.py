"""How much of what is forged, or was not asked for, a relay may pass on before it is hung up on.

Relays verify what they take and match what they send, but not all do: whoever publishes forgeries to one that does
not must not be able to have everybody leave it. So forgeries are dropped one by one, which costs a hash and a
signature check each, and only so many in so much time that they would be a load here end the connection.
"""

# At once: as many as the stored answers to all of our subscriptions can hold, a fraction of a second's work.
BURST = 2_000
# From then on: a few thousandths of a core.
PER_SECOND = 20.0


class Tolerance:
    """Of one connection. Pure: time is given, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._left, self._at = float(BURST), 0.0

    def wrong(self, now: float) -> bool:
        """Counts one; whether it is still no flood."""
        self._left = min(float(BURST), self._left + max(0.0, now - self._at) * PER_SECOND) - 1
        self._at = now
        return self._left >= 0
