"""Timers, whose cost does not grow with their number.

They lie unordered in intervals of a twentieth of a second, and are sorted when their interval begins. One heap over
all of them would cost a cache miss per level.
"""

import heapq
from bisect import insort
from collections.abc import Callable
from typing import Any, Protocol

_INTERVAL_S = 0.05
# The interval of timers that are never due.
_LAST = 2**53
_NEVER = _LAST * _INTERVAL_S
_SWEEP_FROM = 1_024


class Subject(Protocol):
    """What a timer is about; the timer is dropped when its subject is not `live` any more."""

    @property
    def live(self) -> bool: ...


# (minus the time, minus a running number that orders equal times, the function, its subject). No closure is made for
# each: with several deadlines a job they would be most of the garbage collector's work.
type _Timer = tuple[float, int, Callable[[Any, float], None], Subject]


class Timers:
    """See the module. Times are monotonic seconds, given by the caller; functions are called in `run` only."""

    def __init__(self) -> None:
        # Timers of intervals that have begun, the next due one last.
        self._near: list[_Timer] = []
        # Timers of later intervals, and a heap of these intervals.
        self._far: dict[int, list[_Timer]] = {}
        self._intervals: list[int] = []
        self._begun = -_LAST
        self._last = 0
        self._count = 0
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return self._count

    def at[S: Subject](self, when: float, due: Callable[[S, float], None], subject: S) -> None:
        """Has `due(subject, now)` called at `when`, if the subject is live then."""
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
        """Calls all that is due."""
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
        """Drops timers whose subjects are not live any more."""
        self._near[:] = [timer for timer in self._near if timer[3].live]
        far = {interval: [timer for timer in timers if timer[3].live] for interval, timers in self._far.items()}
        self._far = {interval: timers for interval, timers in far.items() if timers}
        self._intervals = sorted(self._far)
        self._count = len(self._near) + sum(map(len, self._far.values()))
        self._sweep_at = max(_SWEEP_FROM, 2 * self._count)
