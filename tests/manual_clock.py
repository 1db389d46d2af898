"""A clock that tests move."""


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self, wall: float = 1_700_000_000.0, monotonic: float = 0.0) -> None:
        self._wall = wall
        self._monotonic = self._boot = monotonic

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def boot(self) -> float:
        return self._boot

    def advance(self, seconds: float) -> None:
        """Moves all clocks forward."""
        self.sleep(seconds)
        self._monotonic += seconds

    def sleep(self, seconds: float) -> None:
        """The machine sleeps for so long: the monotonic clock stands."""
        self._wall += seconds
        self._boot += seconds

    def set_by(self, seconds: float) -> None:
        """Somebody sets the clock of the machine, ahead or back."""
        self._wall += seconds
