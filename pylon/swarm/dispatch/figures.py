"""What a lane's jobs have come to so far: how many were sent and answered, and how long that took."""

from pylon.swarm.dispatch.candidates import step
from pylon.swarm.dispatch.pace import Recent
from pylon.swarm.dispatch.slot import Attempt

# Among the slowest is who is still out when so many times as many have come back.
STILL_OUT = 4
# So many of the latest waits are remembered, and at least so many must be known.
_WAITS, _FEWEST_WAITS = 64, 8


class Figures:
    """See the module. `samples` answers must have come before any figure of theirs is used."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.open = 0
        """Slots without an outcome."""
        self.in_flight = 0
        """Attempts that are waited for."""
        self._sent = self._hedged = self._answered = 0
        self._answers = Recent()
        self.waits = Recent(_WAITS)
        """The seconds that jobs waited of late behind those of other customers."""

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
        """An answer came, after that long."""
        self._answered += 1
        self._answers.add(seconds)

    def usual(self, quantile: float) -> float | None:
        """Seconds that this share of answers came within, or None when too few have come."""
        return self._answers.quantile(quantile) if self._answers.count >= self._samples else None

    def usual_wait(self) -> int:
        """The step of the wait behind others' jobs that half of ours stayed within; 0 when too few are known.

        Half, so that a few providers who only claim a wait change nothing.
        """
        return step(self.waits.quantile(0.5)) if self.waits.count >= _FEWEST_WAITS else 0

    def is_among_the_last(self, attempt: Attempt) -> bool:
        """Whether it is one of the slowest few: of those out together with it, most have come back since.

        While most are still out the whole swarm is slow, or the way there, and asking twice makes it slower. Of a
        handful each may be hedged.
        """
        return self._answered - attempt.answered_before + self._samples >= STILL_OUT * self.in_flight

    def may_hedge(self, share: float) -> bool:
        """Whether one more second try stays within this share of what was sent, the first two apart."""
        return self._hedged < 2 + share * self._sent
