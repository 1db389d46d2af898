"""How long to wait before a relay is tried again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before the next attempt: doubling from `first` to `most`, a random half of it taken away."""

    first: float = 0.5
    most: float = 60.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """The wait after `attempt` failures in a row (1, 2, …)."""
        full = min(self.most, self.first * 2.0 ** min(attempt - 1, 30))
        return full * float(rng.uniform(0.5, 1.0))
