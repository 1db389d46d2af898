"""How long jobs take, as observed: the average of one provider, and quantiles over the latest of many."""

import math
from bisect import bisect_left, insort
from collections import deque

# Weight of the newest answer in the moving average.
_WEIGHT = 0.3


class Pace:
    """The moving average of the seconds that a job takes at one provider; 0 before the first."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def saw(self, seconds: float) -> None:
        """A job was answered after so many seconds."""
        self.seconds = seconds if self.seconds == 0.0 else self.seconds + _WEIGHT * (seconds - self.seconds)

    def at_least(self, seconds: float) -> None:
        """A job has not been answered for so many seconds."""
        if seconds > self.seconds:
            self.saw(seconds)


class Recent:
    """The last `size` durations, in seconds, for their quantiles."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._order: deque[float] = deque()
        self.count = 0
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Adds a duration; the oldest goes when there are too many."""
        if len(self._order) == self._size:
            oldest = self._order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        else:
            self.count += 1
        self._order.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, q: float) -> float:
        """The duration within which a share `q` of them stays; infinite when there are none."""
        if not self._sorted:
            return math.inf
        return self._sorted[min(len(self._sorted) - 1, int(q * len(self._sorted)))]
