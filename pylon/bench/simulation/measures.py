"""Figures made of what a simulation counted."""

from collections.abc import Sequence


def ideal_s(jobs: int, speeds: Sequence[tuple[float, int]], *, width: int) -> float:
    """Seconds that this many equal jobs take at the very least, however they are given out.

    `speeds` holds for each machine the seconds of a job and its slots; `width` is how many jobs may be out at once,
    so that no more than that many of the quickest slots count. A machine does floor(T / seconds) jobs a slot within
    T: the least T by which all of them do `jobs` together.
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
    """The Gini coefficient: 0 when all have the same, towards 1 when one has everything."""
    total = sum(values)
    if not total:
        return 0.0
    ranked = sorted(values)
    weighted = sum(rank * value for rank, value in enumerate(ranked, start=1))
    return 2 * weighted / (len(ranked) * total) - (len(ranked) + 1) / len(ranked)


def quantile(ranked: Sequence[float], q: float) -> float:
    """The value that a share `q` of sorted values stays within; 0 of none."""
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))] if ranked else 0.0
