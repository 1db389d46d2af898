"""A token bucket: allows so much at once, and after that at a steady rate."""


class TokenBucket:
    """Allows `burst` at once, and `per_s` more with each second. Pure: time is given, in monotonic seconds."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._tokens, self._at = burst, 0.0

    def take(self, now: float) -> bool:
        """Whether one more is allowed now; if so, it is counted."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
