"""Keeps a batch within memory: decides what may start now, and whether memory is over its limit."""

from collections.abc import Callable, Iterable

from pylon.clock import Clock
from pylon.inference.memory import MemoryPlan

# Seconds between measurements, each of which takes longer than a step of a small model.
_MEASURE_EVERY_S = 0.25


class Headroom:
    """Compares plan and use of memory. `used` measures the memory that this process takes, in bytes."""

    def __init__(self, plan: MemoryPlan, used: Callable[[], int], clock: Clock) -> None:
        self._plan = plan
        self._used = used
        self._clock = clock
        self._measured_at = float("-inf")
        self._full = False

    def over(self, *, now: bool = False) -> bool:
        """Whether memory in use is over the hard limit, measured a few times a second or `now`."""
        at = self._clock.monotonic()
        if not now and at - self._measured_at < _MEASURE_EVERY_S:
            return False
        self._measured_at = at
        self._full = self._plan.must_shed(self._used())
        return self._full

    def admits(self, running: Iterable[int], new: int, prefixes: int) -> bool:
        """Whether a row of `new` tokens may start beside the running ones; `prefixes` is bytes of shared prefixes."""
        return not self._full and self._plan.admits(list(running), new, prefixes)
