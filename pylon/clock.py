"""The two clocks. Deciders never read one: time comes in as an argument."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def wall(self) -> float:
        """Seconds since 1970, as other machines see it: for anything that is written down or signed."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point, never backwards: for deadlines and durations."""


class SystemClock:
    """This machine's clocks."""

    # Not wrapped in functions of our own: they are read a dozen times a job.
    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
