"""What is to be done later, in one heap: the cost of a deadline does not grow with how many there are."""

import heapq
from collections.abc import Callable
from typing import Any, Protocol


class Subject(Protocol):
    """What something is to be done about; `live` while it still matters."""

    @property
    def live(self) -> bool: ...


type _Timer = tuple[float, int, Callable[[Any, float], None], Subject]


class Timers:
    """Times are the caller's; nothing happens but in `run`."""

    def __init__(self) -> None:
        # When, a number that orders equals, what is then to be done, and about what. No function is made for each:
        # with several deadlines a job the garbage collector would have most of its work with them.
        self._heap: list[_Timer] = []
        self._last = 0
        self._sweep_at = 1_024

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> float | None:
        """When something is due at the earliest."""
        return self._heap[0][0] if self._heap else None

    def at[S: Subject](self, when: float, due: Callable[[S, float], None], subject: S) -> None:
        """Does it then, if the subject is still live; `due` is told the time."""
        self._last += 1
        timer: _Timer = (when, self._last, due, subject)
        heapq.heappush(self._heap, timer)
        if len(self._heap) > self._sweep_at:
            self._heap = [timer for timer in self._heap if timer[3].live]
            heapq.heapify(self._heap)
            self._sweep_at = max(1_024, 2 * len(self._heap))

    def run(self, now: float) -> None:
        """Does what is due."""
        while self._heap and self._heap[0][0] <= now:
            _, _, due, subject = heapq.heappop(self._heap)
            if subject.live:
                due(subject, now)
