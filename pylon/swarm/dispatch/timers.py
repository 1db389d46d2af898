"""What is to be done later: the cost of a deadline does not grow with how many there are.

Deadlines lie in intervals of a twentieth of a second, unordered, until one's time comes. One heap of them all is as
deep as its logarithm, and each of its levels is a place in memory that nothing has touched for seconds.
"""

import heapq
from bisect import insort
from collections.abc import Callable
from typing import Any, Protocol

_INTERVAL_S = 0.05
# What is never due lies in an interval too.
_LAST = 2**53
_NEVER = _LAST * _INTERVAL_S
_SWEEP_FROM = 1_024


class Subject(Protocol):
    """What something is to be done about; `live` while it still matters."""

    @property
    def live(self) -> bool: ...


# When, negative; a number that orders equals, negative too; what is then to be done, and about what. No function is
# made for each: with several deadlines a job the garbage collector would have most of its work with them.
type _Timer = tuple[float, int, Callable[[Any, float], None], Subject]


class Timers:
    """Times are the caller's; nothing happens but in `run`."""

    def __init__(self) -> None:
        # Those of intervals that have begun, the next one last.
        self._near: list[_Timer] = []
        # The others, and a heap of their intervals.
        self._far: dict[int, list[_Timer]] = {}
        self._intervals: list[int] = []
        self._begun = -_LAST
        self._last = 0
        self._count = 0
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return self._count

    def at[S: Subject](self, when: float, due: Callable[[S, float], None], subject: S) -> None:
        """Does it then, if the subject is still live; `due` is told the time."""
        self._last -= 1
        timer: _Timer = (-when, self._last, due, subject)
        interval = int(when / _INTERVAL_S) if when < _NEVER else _LAST
        if interval <= self._begun:
            insort(self._near, timer)
        elif (others := self._far.get(interval)) is not None:
            others.append(timer)
        else:
            self._far[interval] = [timer]
            heapq.heappush(self._intervals, interval)
        self._count += 1
        if self._count > self._sweep_at:
            self._sweep()

    def run(self, now: float) -> None:
        """Does what is due."""
        interval = int(now / _INTERVAL_S) if now < _NEVER else _LAST
        if interval > self._begun:
            self._begin(interval)
        near = self._near
        while near and -near[-1][0] <= now:
            _, _, due, subject = near.pop()
            self._count -= 1
            if subject.live:
                due(subject, now)

    def _begin(self, interval: int) -> None:
        self._begun = interval
        while self._intervals and self._intervals[0] <= interval:
            self._near += self._far.pop(heapq.heappop(self._intervals))
        self._near.sort()

    def _sweep(self) -> None:
        """Throws away what does not matter any more."""
        self._near[:] = [timer for timer in self._near if timer[3].live]
        far = {interval: [timer for timer in timers if timer[3].live] for interval, timers in self._far.items()}
        self._far = {interval: timers for interval, timers in far.items() if timers}
        self._intervals = sorted(self._far)
        self._count = len(self._near) + sum(map(len, self._far.values()))
        self._sweep_at = max(_SWEEP_FROM, 2 * self._count)
