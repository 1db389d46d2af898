"""How long things take, learned from what was seen: one provider's pace, and the usual time of many."""

import math
from bisect import bisect_left, insort
from collections import deque

_WEIGHT = 0.3


class Pace:
    """Seconds a job takes at one provider: a moving average, the newest counting three tenths."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def saw(self, seconds: float) -> None:
        """A job was answered after that long."""
        self.seconds = seconds if self.seconds == 0.0 else self.seconds + _WEIGHT * (seconds - self.seconds)

    def at_least(self, seconds: float) -> None:
        """A job was not answered for that long."""
        if seconds > self.seconds:
            self.saw(seconds)


class Recent:
    """The last few hundred durations, sorted, for quantiles."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._order: deque[float] = deque()
        self.count = 0
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Adds one, and forgets the oldest when there are too many."""
        if len(self._order) == self._size:
            oldest = self._order.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        else:
            self.count += 1
        self._order.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, q: float) -> float:
        """The duration that a share `q` stays within; infinite when nothing was seen."""
        if not self._sorted:
            return math.inf
        return self._sorted[min(len(self._sorted) - 1, int(q * len(self._sorted)))]
