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


class ManualClock:
    """A clock that stands until it is moved: for simulation and tests."""

    def __init__(self, wall: float = 1_700_000_000.0, monotonic: float = 0.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Moves both clocks forward."""
        self._wall += seconds
        self._monotonic += seconds
