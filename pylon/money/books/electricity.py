"""The electricity that jobs took: the time of a machine that runs many jobs at once, divided among them.

A batch of sixteen keeps the machine busy for as long as its longest job, not sixteen times as long. So each moment is
divided equally among the jobs that ran in it, and the shares add up to the time in which any job ran.
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
    """The owner's settings: what the machine draws while it works (watts), and prices in `currency`; 0 where not set.

    `per_bitcoin` is the price of one bitcoin. None of it is ever looked up.
    """

    watts: float = 0.0
    price_per_kwh: float = 0.0
    currency: str = ""
    per_bitcoin: float = 0.0

    def kwh(self, seconds: float) -> float | None:
        """The energy for so many seconds of work, in kWh; None when the watts are not known."""
        return seconds * self.watts / SECONDS_PER_KWH_WATT if self.watts else None

    def cost(self, seconds: float) -> float | None:
        """The cost of so many seconds of work, in `currency`; None when watts or price are not known."""
        kwh = self.kwh(seconds)
        return None if kwh is None or not self.price_per_kwh else kwh * self.price_per_kwh

    def worth(self, msat: int) -> float | None:
        """The value of an amount of live money, in `currency`; None when the price of bitcoin is not known."""
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
