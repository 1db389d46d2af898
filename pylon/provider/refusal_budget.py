"""Limits how often a key is answered: a token bucket for each key, so that answers never amplify an attack."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefusalLimits:
    """For one key, `burst` answers at once and then `per_s` a second; `total_burst` and `total_per_s` for all keys
    together. The buckets of at most `keys` keys are remembered."""

    burst: float = 200.0
    per_s: float = 2.0
    total_burst: float = 2_000.0
    total_per_s: float = 100.0
    keys: int = 10_000


class RefusalBudget:
    """The buckets. Pure: the time is passed in, in seconds of a monotonic clock."""

    def __init__(self, limits: RefusalLimits | None = None) -> None:
        self._limits = limits or RefusalLimits()
        # Keys cost nothing to make. So the least recently seen one is forgotten, and all keys share a second bucket.
        self._keys: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._total = (self._limits.total_burst, 0.0)

    def allow(self, key: str, now: float) -> bool:
        """Whether this key may be answered now. If so, the answer is counted."""
        limits = self._limits
        own = _refill(self._keys.pop(key, (limits.burst, now)), limits.burst, limits.per_s, now)
        total = _refill(self._total, limits.total_burst, limits.total_per_s, now)
        allowed = own >= 1 and total >= 1
        spent = 1.0 if allowed else 0.0
        self._keys[key] = (own - spent, now)
        self._total = (total - spent, now)
        if len(self._keys) > limits.keys:
            self._keys.popitem(last=False)
        return allowed


def _refill(bucket: tuple[float, float], burst: float, per_s: float, now: float) -> float:
    level, at = bucket
    return min(burst, level + max(0.0, now - at) * per_s)
