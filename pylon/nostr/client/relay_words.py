"""How many of a relay's own words go into the log: it may say as many as it likes, and a log has room for so many."""

from typing import Any

# At once: what a relay has to say when something is the matter there. From then on one in so many seconds.
BURST, EVERY_S = 5, 60.0


class RelayWords:
    """Of one relay and one kind of word. Pure: time is given, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._left, self._at, self._left_out = float(BURST), 0.0, 0

    def tell(self, now: float) -> dict[str, Any] | None:
        """None when one more is left out; else what is said beside it: how many were left out before it, if any."""
        self._left = min(float(BURST), self._left + max(0.0, now - self._at) / EVERY_S)
        self._at = now
        if self._left < 1:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}
