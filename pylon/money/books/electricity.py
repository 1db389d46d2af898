"""What work took in electricity: seconds of a machine that does many jobs at once, shared out among them.

A batch of sixteen keeps the machine busy for as long as its longest job, not sixteen times as long. So each moment
is divided among the jobs that ran in it: shares add up to the time in which anything ran at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

SECONDS_PER_KWH_WATT = 3_600_000.0
MSAT_PER_BITCOIN = 100_000_000_000


@dataclass(frozen=True, slots=True)
class Ran:
    """A job ran for `seconds` and ended at `ended_at` (Unix seconds)."""

    job: str
    ended_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Tariff:
    """What the machine draws while it works (watts), and prices in `currency`; 0 where nobody said.

    `per_bitcoin` is what one bitcoin costs. Nothing here is ever looked up: it is what the owner configured.
    """

    watts: float = 0.0
    price_per_kwh: float = 0.0
    currency: str = ""
    per_bitcoin: float = 0.0

    def kwh(self, seconds: float) -> float | None:
        """What so much work took, or None when the watts are not known."""
        return seconds * self.watts / SECONDS_PER_KWH_WATT if self.watts else None

    def cost(self, seconds: float) -> float | None:
        """What that cost, in `currency`."""
        kwh = self.kwh(seconds)
        return None if kwh is None or not self.price_per_kwh else kwh * self.price_per_kwh

    def worth(self, msat: int) -> float | None:
        """What live money is worth, in `currency`."""
        return msat * self.per_bitcoin / MSAT_PER_BITCOIN if self.per_bitcoin else None


def shares(runs: Iterable[Ran]) -> dict[str, float]:
    """Each job's share of the time in which anything ran, in seconds."""
    kept = [run for run in runs if run.seconds > 0]
    turns: dict[float, int] = {}
    for run in kept:
        turns[run.ended_at - run.seconds] = turns.get(run.ended_at - run.seconds, 0) + 1
        turns[run.ended_at] = turns.get(run.ended_at, 0) - 1
    # The share of a job that ran from a to b is the integral of 1 / (jobs at once) over that time.
    so_far, at_once = 0.0, 0
    integral: dict[float, float] = {}
    times = sorted(turns)
    for start, end in pairwise([*times, times[-1]] if times else []):
        integral[start] = so_far
        at_once += turns[start]
        if at_once:
            so_far += (end - start) / at_once
    return {run.job: integral[run.ended_at] - integral[run.ended_at - run.seconds] for run in kept}
