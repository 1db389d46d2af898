"""What the rehearsals of a cell may cost, in seconds and in steps, so that they do not slow the cell down.

Steps alone are not enough: a single native call may take seconds, and so may a copy of the code's data.
"""

from collections.abc import Callable

from .unknown import Ended

# The most steps of all rehearsals of a cell since one of them last found calls to send together.
STEPS = 1_000_000
# Steps that starting a rehearsal counts for.
_BEGINNING = 1000
# Seconds for all rehearsals of a cell, what each call that is found adds to them, and the most they add up to.
_START_S, _CALL_S, _MOST_S = 0.5, 0.02, 3.0


class Budget:
    """The time and steps that the rehearsals of the current cell have left. `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.start_cell()

    def start_cell(self) -> None:
        """Gives the next cell its full time and steps."""
        self._allowed_s, self._spent_s = _START_S, 0.0
        self._began = self._now()
        self._steps = 0
        # By anchor: how many visits are still to be skipped, and how many after the next failure.
        self._left_out: dict[int, tuple[int, int]] = {}

    def worthwhile(self, anchor: int) -> bool:
        """Whether to rehearse at this visit. After a rehearsal that found nothing, 1, 2, 4, … visits are skipped."""
        left, following = self._left_out.get(anchor, (0, 1))
        if left:
            self._left_out[anchor] = left - 1, following
        return not left

    def begin(self) -> bool:
        """Starts the clock of a rehearsal. False if the cell has no time or steps left for one."""
        self._began = self._now()
        return self._spent_s < self._allowed_s and self._steps < STEPS

    def look(self) -> None:
        """Raises Ended if the time of the cell's rehearsals is over."""
        if self._spent_s + self._now() - self._began > self._allowed_s:
            raise Ended

    def found(self) -> None:
        """Adds the time that a sub-call is worth which the code would otherwise wait for by itself."""
        self._allowed_s = min(self._allowed_s + _CALL_S, _MOST_S)

    def end(self, steps: int) -> None:
        """Stops the clock of a rehearsal, and takes off its time and steps."""
        self._spent_s += self._now() - self._began
        self._steps += steps + _BEGINNING

    def brought(self, anchor: int) -> None:
        """Records that a rehearsal at this anchor has found calls to send together."""
        self._steps = 0
        self._left_out.pop(anchor, None)

    def brought_nothing(self, anchor: int) -> None:
        """Records that the rehearsals at this anchor have found nothing: its next visits are skipped."""
        _, following = self._left_out.get(anchor, (0, 1))
        self._left_out[anchor] = following, following * 2
