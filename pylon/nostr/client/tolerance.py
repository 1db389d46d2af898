"""How many forged or unwanted events a relay may send before we disconnect.

Most relays verify the events that they take, but not all do. Somebody who publishes forgeries to such a relay must
not be able to make everybody leave it. So each forgery is only dropped, which costs a hash and a signature check; the
connection ends when there are so many of them that they are a load here.
"""

# Allowed at once: as many as the stored answers to all of our subscriptions can hold, a fraction of a second's work.
BURST = 2_000
# Allowed after that: a few thousandths of a core.
PER_SECOND = 20.0


class Tolerance:
    """The allowance of one connection. Pure: time is given, in monotonic seconds."""

    def __init__(self) -> None:
        self._left, self._at = float(BURST), 0.0

    def wrong(self, now: float) -> bool:
        """Count one wrong event; False when there are too many."""
        self._left = min(float(BURST), self._left + max(0.0, now - self._at) * PER_SECOND) - 1
        self._at = now
        return self._left >= 0
