"""How long to wait before connecting to a relay again."""

import random
from dataclasses import dataclass

# After a connection that lasted this long, its loss counts as the first failure.
STEADY_SECONDS = 10.0
# A relay that answered and was lost sooner counts at most this many failures in a row: it is tried again soon, as
# behind a network that fails now and then, but not several times a second.
SOON = 3
# A relay that flooded us waits longer each time, unless its last connection lasted this long.
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
    """Counts one relay's failures in a row. To be connected is no success: a relay may hang up at once."""

    def __init__(self, backoff: Backoff, rng: random.Random) -> None:
        self._backoff = backoff
        self._rng = rng
        self._failures = self._floods = 0

    def lost(self, lasted: float, *, answered: bool = False, flooded: bool = False) -> float:
        """Seconds to wait after a connection was lost, or could not be made.

        `lasted`: for how many seconds it was open. `answered`: the relay did something that we asked for. `flooded`:
        we hung up, since it sent too much that was forged or not asked for.
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

    def start_anew(self) -> None:
        """Forget the failures in a row: what they were due to may be over. Floods are remembered."""
        self._failures = 0
