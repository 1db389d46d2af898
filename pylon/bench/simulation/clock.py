"""The simulated clock: functions to be called, in order of their time."""

import heapq
from collections.abc import Callable

# The wall time at which the simulation begins, in Unix seconds.
EPOCH = 1_800_000_000


class SimulatedClock:
    """`now` is the simulated seconds since the start.

    Calls of equal time are made in the order of their entry, so that a run can be repeated.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._entered = 0

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return EPOCH + self.now

    def at(self, when: float, happens: Callable[[], None]) -> None:
        """Calls `happens` at that time; at once if that is past."""
        self._entered += 1
        heapq.heappush(self._heap, (max(when, self.now), self._entered, happens))

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        """Calls `happens` so many seconds from now."""
        self.at(self.now + seconds, happens)

    def step(self) -> bool:
        """Goes to the next call and makes it; False if there is none."""
        if not self._heap:
            return False
        self.now, _, happens = heapq.heappop(self._heap)
        happens()
        return True
