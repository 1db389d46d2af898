"""Keeping a batch within memory: what may start now, and whether something has to go."""

from collections.abc import Callable, Iterable

from pylon.clock import Clock
from pylon.inference.memory import MemoryPlan

# Asking the system how much memory is in use takes longer than a small model's step.
_MEASURE_EVERY_S = 0.25


class Headroom:
    """`used` measures the memory that this process takes, in bytes."""

    def __init__(self, plan: MemoryPlan, used: Callable[[], int], clock: Clock) -> None:
        self._plan = plan
        self._used = used
        self._clock = clock
        self._measured_at = float("-inf")
        self._full = False

    def over(self, *, now: bool = False) -> bool:
        """Whether what is in use passes the hard limit: measured a few times a second, or `now`."""
        at = self._clock.monotonic()
        if not now and at - self._measured_at < _MEASURE_EVERY_S:
            return False
        self._measured_at = at
        self._full = self._plan.must_shed(self._used())
        return self._full

    def admits(self, running: Iterable[int], new: int, heads: int) -> bool:
        """Whether a row of `new` tokens may start beside those that run; `heads` is what shared heads take."""
        return not self._full and self._plan.admits(list(running), new, heads)
