"""What the rehearsals of a cell may cost, by the clock and in steps: a cell must not be slower for them.

A single native call may take seconds, and a copy of the code's data too: steps alone bound neither.
"""

from collections.abc import Callable

from .unknown import Ended

# Steps of all rehearsals of a cell since one has brought something.
STEPS = 1_000_000
# What beginning one costs, in such steps.
_BEGINNING = 1000
# Seconds for all rehearsals of a cell, what each call found adds to that, and the most that it can become in all.
_START_S, _CALL_S, _MOST_S = 0.5, 0.02, 3.0


class Budget:
    """Of one cell after the other. `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.start_cell()

    def start_cell(self) -> None:
        self._allowed_s, self._spent_s = _START_S, 0.0
        self._began = self._now()
        self._steps = 0
        # By anchor: how many visits are still left out, and how many will be next time.
        self._left_out: dict[int, tuple[int, int]] = {}

    def worthwhile(self, anchor: int) -> bool:
        """Whether to rehearse at this visit. Where it brought nothing, 1, 2, 4, … visits are left out."""
        left, following = self._left_out.get(anchor, (0, 1))
        if left:
            self._left_out[anchor] = left - 1, following
        return not left

    def begin(self) -> bool:
        """Starts the clock of a rehearsal, where there is something left for one."""
        self._began = self._now()
        return self._spent_s < self._allowed_s and self._steps < STEPS

    def look(self) -> None:
        """Raises Ended where the time is over."""
        if self._spent_s + self._now() - self._began > self._allowed_s:
            raise Ended

    def found(self) -> None:
        """A call that would be waited for by itself."""
        self._allowed_s = min(self._allowed_s + _CALL_S, _MOST_S)

    def end(self, steps: int) -> None:
        """Stops the clock."""
        self._spent_s += self._now() - self._began
        self._steps += steps + _BEGINNING

    def brought(self, anchor: int) -> None:
        """A rehearsal there has found calls to send together."""
        self._steps = 0
        self._left_out.pop(anchor, None)

    def brought_nothing(self, anchor: int) -> None:
        _, following = self._left_out.get(anchor, (0, 1))
        self._left_out[anchor] = following, following * 2
