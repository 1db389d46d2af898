"""What is to be done later, in one heap: the cost of a deadline does not grow with how many there are."""

import heapq
from collections.abc import Callable

type Due = Callable[[float], None]
type Matters = Callable[[], bool]


class Timers:
    """Times are the caller's; nothing happens but in `run`."""

    def __init__(self) -> None:
        # When, a number that orders equals, what is then to be done, and whether it still matters by then.
        self._heap: list[tuple[float, int, Due, Matters]] = []
        self._last = 0
        self._sweep_at = 1_024

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> float | None:
        """When something is due at the earliest."""
        return self._heap[0][0] if self._heap else None

    def at(self, when: float, due: Due, matters: Matters) -> None:
        """Does it then, if it still matters; `due` is told the time."""
        self._last += 1
        heapq.heappush(self._heap, (when, self._last, due, matters))
        if len(self._heap) > self._sweep_at:
            self._heap = [timer for timer in self._heap if timer[3]()]
            heapq.heapify(self._heap)
            self._sweep_at = max(1_024, 2 * len(self._heap))

    def run(self, now: float) -> None:
        """Does what is due."""
        while self._heap and self._heap[0][0] <= now:
            _, _, due, matters = heapq.heappop(self._heap)
            if matters():
                due(now)
