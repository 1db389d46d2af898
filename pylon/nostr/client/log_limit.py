"""Limits how many log lines one relay can cause, since a relay may send as many messages as it likes."""

from typing import Any

from pylon.token_bucket import TokenBucket

# The first few are logged, enough to see what is wrong with a relay; after that one every EVERY_S seconds.
BURST, EVERY_S = 5, 60.0


class LogLimit:
    """The limit for one relay and one kind of message. Pure: time is given, in monotonic seconds."""

    def __init__(self) -> None:
        self._bucket, self._left_out = TokenBucket(BURST, 1 / EVERY_S), 0

    def admit(self, now: float) -> dict[str, Any] | None:
        """None if the line is to be left out; else the fields to log with it: how many were left out before it."""
        if not self._bucket.take(now):
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}
