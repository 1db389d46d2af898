"""When to ask relays for stored answers that they did not push (a look). Pure: monotonic seconds in, decisions out.

While answers stream in, the next ones are more likely on their way than lost, and a look costs the relay as much as a
hundred of them. So a look waits for a lull, but not for long. Where the last look found many answers that were never
pushed, the next one does not wait.
"""

import math

# A lull: no answer came for this long. A look waits for one until LOOK_LATEST_S after the last look, which is well
# before an acknowledgement is due.
LULL_S = 0.5
LOOK_LATEST_S = 2.5
# The share of requests with a stored answer from which relays are not trusted to push.
_LOST = 0.02


class Looks:
    """When the last answer came and the last look was, and whether relays lose much."""

    def __init__(self) -> None:
        self._answered_at = self._looked_at = -math.inf
        self._lossy = False

    def answered(self, now: float) -> None:
        """An answer came, pushed or found by a look."""
        self._answered_at = now

    def is_due(self, now: float) -> bool:
        """Whether to look now. If so, that counts as the last look."""
        if not self._lossy and now - self._answered_at < LULL_S and now - self._looked_at < LOOK_LATEST_S:
            return False
        self._looked_at = now
        return True

    def found(self, asked: int, answers: int) -> None:
        """A look for `asked` requests found `answers` of them answered that had not been pushed."""
        if asked:
            self._lossy = answers > _LOST * asked
