"""When relays are asked for what they did not push. Monotonic seconds in, decisions out.

While answers stream in, the next ones are more likely on their way than lost, and a look costs the relay as much as a
hundred of them: it waits for a lull, but not for long. Where a look found much that was never pushed, none is waited
for.
"""

import math

# A look waits while an answer came within the first time, but no longer than the second after the last look: well
# before the deadline of an acknowledgement.
LULL_S = 0.5
LOOK_LATEST_S = 2.5
# Of the requests asked after, the share with an answer in store from which on relays are not trusted to push.
_LOST = 0.02


class Looks:
    """See the module."""

    def __init__(self) -> None:
        self._answered_at = self._looked_at = -math.inf
        self._lossy = False

    def answered(self, now: float) -> None:
        """An answer came, pushed or found."""
        self._answered_at = now

    def is_due(self, now: float) -> bool:
        """Whether to look now, which then counts as done."""
        if not self._lossy and now - self._answered_at < LULL_S and now - self._looked_at < LOOK_LATEST_S:
            return False
        self._looked_at = now
        return True

    def found(self, asked: int, answers: int) -> None:
        """A look for so many requests found so many answers that had not come by themselves."""
        if asked:
            self._lossy = answers > _LOST * asked
