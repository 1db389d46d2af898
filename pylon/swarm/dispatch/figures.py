"""Counts and times of a lane's jobs: how many were sent and answered, and how long answers and queues took."""

from pylon.swarm.dispatch.candidates import step
from pylon.swarm.dispatch.pace import Recent
from pylon.swarm.dispatch.slot import Attempt

# An attempt is among the slowest when so many times as many answers have come as attempts are still out.
STILL_OUT = 4
# How many of the latest waits are kept, and how many must be known before they are used.
_WAITS, _FEWEST_WAITS = 64, 8


class Figures:
    """See the module. No answer time is used before `samples` answers have come."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.open = 0
        """Slots without an outcome."""
        self.in_flight = 0
        """Attempts that are waited for."""
        self._sent = self._hedged = self._answered = 0
        self._answers = Recent()
        self.waits = Recent(_WAITS)
        """How many seconds recent jobs waited in providers' queues behind jobs of other customers."""

    @property
    def answered(self) -> int:
        """How many answers have come."""
        return self._answered

    def began(self, *, hedge: bool) -> None:
        """An attempt was sent."""
        self._sent += 1
        self.in_flight += 1
        self._hedged += hedge

    def saw(self, seconds: float) -> None:
        """An answer came after so many seconds."""
        self._answered += 1
        self._answers.add(seconds)

    def usual(self, quantile: float) -> float | None:
        """The seconds within which this share of answers came; None while too few have come."""
        return self._answers.quantile(quantile) if self._answers.count >= self._samples else None

    def usual_wait(self) -> int:
        """The median wait behind other customers' jobs, as a step (see `candidates.step`); 0 while too few are known.

        The median, so that a few providers that merely claim a wait change nothing.
        """
        return step(self.waits.quantile(0.5)) if self.waits.count >= _FEWEST_WAITS else 0

    def is_among_the_last(self, attempt: Attempt) -> bool:
        """Whether this attempt is one of the slowest few: most of those in flight with it have been answered since.

        While most are still out, the whole swarm or the network is slow, and a second request would make it slower.
        Of a handful of attempts each may be hedged.
        """
        return self._answered - attempt.answered_before + self._samples >= STILL_OUT * self.in_flight

    def may_hedge(self, share: float) -> bool:
        """Whether one more hedge stays within this share of all attempts; the first two are always allowed."""
        return self._hedged < 2 + share * self._sent
