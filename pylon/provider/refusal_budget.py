"""How often a key is told no: a bucket per key, so that a refusal never amplifies an attack."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefusalLimits:
    """`burst` refusals at once for one key, then `per_s` a second; all keys together `total_per_s`."""

    burst: float = 200.0
    per_s: float = 2.0
    total_burst: float = 2_000.0
    total_per_s: float = 100.0
    keys: int = 10_000


class RefusalBudget:
    """Pure: time is given, in seconds of the monotonic clock."""

    def __init__(self, limits: RefusalLimits | None = None) -> None:
        self._limits = limits or RefusalLimits()
        # A stranger can make keys at will: the least recently seen is forgotten, and all share one more bucket.
        self._keys: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._total = (self._limits.total_burst, 0.0)

    def allow(self, key: str, now: float) -> bool:
        """Whether this key may be answered now; counts it if so."""
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
