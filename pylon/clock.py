"""The clocks. Deciders never read one: time comes in as an argument.

The wall clock can jump by hours: when it is set at a start before the network is there, by a person, or in a virtual
machine that was resumed. A machine that sleeps moves it against the monotonic clock as well.
"""

import sys
import time
from typing import Protocol

# A clock that counts sleep and is never set; `time.monotonic` stands still while the machine sleeps. Source:
# clock_gettime(2) of Linux, clock_gettime(3) of macOS.
if sys.platform == "darwin":
    _BOOT = time.CLOCK_MONOTONIC_RAW
else:
    _BOOT = time.CLOCK_BOOTTIME
# Smaller differences are ordinary corrections of a clock. The tolerances of our peers are ten times as large.
_APART_S = 30.0
# When rows are deleted, a date is believed that was reached so many seconds ago. A wrong one is mostly set right
# sooner.
BELIEVED_S = 86_400.0


class Clock(Protocol):
    """Where time comes from."""

    def wall(self) -> float:
        """Seconds since 1970, as other machines see it: for anything that is written down or signed."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point, never backwards: for deadlines and durations."""

    def boot(self) -> float:
        """As `monotonic`, but time that the machine sleeps counts: for what people count in hours."""


class SystemClock:
    """This machine's clocks."""

    # Not wrapped in functions of our own: they are read a dozen times a job.
    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def boot() -> float:
        return time.clock_gettime(_BOOT)


class ClockMoves:
    """How the wall clock has moved against the others since this was made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._monotonic, self._boot = self._offsets()

    def in_words(self) -> str:
        """What has moved it by half a minute or more, in words for people; empty if nothing has."""
        from_monotonic, from_boot = self._offsets()
        if abs(moved := from_monotonic - self._monotonic) < _APART_S:
            return ""
        if abs(was_set := from_boot - self._boot) < _APART_S:
            return f"this machine slept for {moved:.0f} s"
        return f"this machine's clock was set {abs(was_set):.0f} s {'ahead' if was_set > 0 else 'back'}"

    def _offsets(self) -> tuple[float, float]:
        wall = self._clock.wall()
        return wall - self._clock.monotonic(), wall - self._clock.boot()
