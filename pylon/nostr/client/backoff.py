"""How long to wait before a relay is tried again."""

import random
from dataclasses import dataclass

# A connection that lasted so long was a good one: the next loss is the first.
STEADY_SECONDS = 10.0
# One that was of use and is lost sooner comes back soon, as behind a network that fails now and then. A relay that
# answers and hangs up, each time, is not asked several times a second for that.
SOON = 3
# One that floods us is asked again later each time, unless it behaved for so long.
PROBATION_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before the next attempt: doubling from `first` to `most`, a random half of it taken away."""

    first: float = 0.5
    most: float = 60.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """The wait after `attempt` failures in a row (1, 2, …)."""
        full = min(self.most, self.first * 2.0 ** min(attempt - 1, 30))
        return full * float(rng.uniform(0.5, 1.0))


class Retries:
    """What failed in a row with one relay. That it takes connections is no success: it may hang up at once."""

    def __init__(self, backoff: Backoff, rng: random.Random) -> None:
        self._backoff = backoff
        self._rng = rng
        self._failures = self._floods = 0

    def lost(self, lasted: float, *, answered: bool = False, flooded: bool = False) -> float:
        """Seconds to wait, now that a connection is lost, or was not made.

        It `lasted` so many seconds. `answered`: the relay did something that was asked of it. `flooded`: it was hung
        up on.
        """
        if flooded:
            self._floods = self._floods + 1 if lasted < PROBATION_SECONDS else 1
            self._failures = self._floods
        elif lasted >= STEADY_SECONDS:
            self._failures = 1
        elif answered:
            self._failures = min(self._failures + 1, SOON)
        else:
            self._failures += 1
        return self._backoff.delay(self._failures, self._rng)
