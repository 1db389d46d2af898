"""How long answered jobs took: waiting for the engine, computing, and until a relay had the result."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any

# The upper ends of the buckets, in seconds. One more bucket counts what is above the last.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# The median is that of so many latest jobs.
LATEST = 200


@dataclass(slots=True)
class Spread:
    """A histogram of durations, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum_s: float = 0.0
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))

    def note(self, seconds: float) -> None:
        """Counts a duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum_s += seconds
        self.latest.append(seconds)

    def as_dict(self) -> dict[str, Any]:
        """As plain values. `median_s` is None before the first duration."""
        middle = round(median(self.latest), 4) if self.latest else None
        return {"bounds_s": list(BOUNDS), "counts": list(self.counts), "sum_s": self.sum_s, "median_s": middle}


class Latency:
    """Histograms of the jobs that this process answered. A job counts once a relay has its result."""

    def __init__(self) -> None:
        self._spreads = {"queue": Spread(), "compute": Spread(), "publish": Spread()}

    def note(self, queue_s: float, compute_s: float, publish_s: float) -> None:
        """Counts a job, by the seconds that each phase took."""
        for spread, seconds in zip(self._spreads.values(), (queue_s, compute_s, publish_s), strict=True):
            spread.note(max(0.0, seconds))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The histograms by phase: `queue`, `compute`, `publish`."""
        return {phase: spread.as_dict() for phase, spread in self._spreads.items()}
