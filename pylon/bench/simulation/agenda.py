"""The simulated clock: what happens next, in order of time."""

import heapq
from collections.abc import Callable

# Where the wall clock stands when the simulation begins, in Unix seconds.
EPOCH = 1_800_000_000


class Agenda:
    """Things to happen. Of equal times, what was entered first happens first, so that a run can be repeated."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._entered = 0

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return EPOCH + self.now

    def at(self, when: float, happens: Callable[[], None]) -> None:
        """Enters something; what lies in the past happens now."""
        self._entered += 1
        heapq.heappush(self._heap, (max(when, self.now), self._entered, happens))

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        self.at(self.now + seconds, happens)

    def step(self) -> bool:
        """Lets the next thing happen; False when there is none."""
        if not self._heap:
            return False
        self.now, _, happens = heapq.heappop(self._heap)
        happens()
        return True
