"""Figures computed from the counts of a simulation."""

from collections.abc import Sequence


def ideal_s(jobs: int, speeds: Sequence[tuple[float, int]], *, width: int) -> float:
    """The shortest time, in seconds, in which this many equal jobs can be done, however they are assigned.

    `speeds` holds each machine's seconds of a job and its slots. `width` is how many jobs may be out at once, so only
    that many of the fastest slots count. A slot does floor(T / seconds) jobs within T; the result is the least T by
    which all slots together do `jobs`.
    """
    slots = sorted(seconds for seconds, count in speeds for _ in range(count))[:width]

    def done_within(limit: float) -> int:
        return sum(int(limit / seconds + 1e-9) for seconds in slots)

    low, high = 0.0, slots[0] * jobs
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if done_within(middle) >= jobs else (middle, high)
    return high


def gini(values: Sequence[float]) -> float:
    """The Gini coefficient: 0 if all have the same, near 1 if one has everything."""
    total = sum(values)
    if not total:
        return 0.0
    ranked = sorted(values)
    weighted = sum(rank * value for rank, value in enumerate(ranked, start=1))
    return 2 * weighted / (len(ranked) * total) - (len(ranked) + 1) / len(ranked)


def quantile(ranked: Sequence[float], q: float) -> float:
    """The value that a share `q` (0 to 1) of the sorted values does not exceed; 0 if there are none."""
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))] if ranked else 0.0
