"""The time that a cell takes: while its code runs, not while it waits for sub-calls."""


class Stopwatch:
    """Measures a cell's own time in seconds; it stands still while at least one sub-call is being answered.

    `now` is always the time of a monotonic clock, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._used = 0.0
        self._since = now
        self._out = 0

    def call_out(self, now: float) -> None:
        """A request for sub-calls begins. Several may overlap."""
        if self._out == 0:
            self._used += now - self._since
        self._out += 1

    def call_back(self, now: float) -> None:
        """A request for sub-calls has been answered."""
        self._out -= 1
        if self._out == 0:
            self._since = now

    @property
    def waiting(self) -> bool:
        """Whether a sub-call is being answered."""
        return self._out > 0

    def used(self, now: float) -> float:
        """The seconds that the cell's own code has taken."""
        return self._used if self._out else self._used + now - self._since
