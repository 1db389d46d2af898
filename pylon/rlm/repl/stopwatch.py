"""A cell's time: what passes while the code runs, not while it waits for its sub-calls."""


class Stopwatch:
    """Time is an argument. Sub-calls may overlap; the watch stands while at least one is out."""

    def __init__(self, now: float) -> None:
        self._used = 0.0
        self._since = now
        self._out = 0

    def call_out(self, now: float) -> None:
        if self._out == 0:
            self._used += now - self._since
        self._out += 1

    def call_back(self, now: float) -> None:
        self._out -= 1
        if self._out == 0:
            self._since = now

    @property
    def waiting(self) -> bool:
        return self._out > 0

    def used(self, now: float) -> float:
        return self._used if self._out else self._used + now - self._since
