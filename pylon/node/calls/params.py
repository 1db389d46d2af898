"""The parameters of a call, each read as what it is: one of another type is named to whoever called.

None stands for one that was not given. All raise `UsageError`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pylon.errors import UsageError

type Params = Mapping[str, Any]

# The largest that a database holds.
_MOST = 2**63 - 1
# Of one map: as many as a node takes in within seconds, and holds in some hundred MiB.
MOST_JOBS = 250_000
# So many of them are looked at before others have their turn: some milliseconds.
AT_ONCE = 500
# Seconds, and points in time, beyond which nothing lies that an event can hold.
_MOST_S = 10_000_000_000


def whole[T](params: Params, name: str, default: T, *, low: int = 0) -> int | T:
    """A whole number, `low` at least."""
    value = params.get(name)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= _MOST:
        raise UsageError(f"{name} must be a whole number from {low} to {_MOST}")
    return value


def number[T](params: Params, name: str, default: T, *, low: float = 0.0) -> float | T:
    """A number such as seconds or a point in time, `low` at least."""
    value = params.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_within(value, low):
        raise UsageError(f"{name} must be a number from {low:g} to {_MOST_S}")
    return value


def text[T](params: Params, name: str, default: T) -> str | T:
    """Text."""
    value = params.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text")
    return value


def flag(params: Params, name: str) -> bool:
    """True or false, which is what it is when it was not given."""
    value = params.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false")
    return bool(value)


def job_list(params: Params) -> Sequence[object]:
    """The `jobs` of a run: not more of them than one takes."""
    jobs = params.get("jobs") or ()
    if not isinstance(jobs, (list, tuple)):
        raise UsageError("jobs must be a list of jobs")
    if len(jobs) > MOST_JOBS:
        raise UsageError(f"a run takes at most {MOST_JOBS:,} jobs", hint="Split it into several runs.")
    return jobs


def _is_within(value: float, low: float) -> bool:
    # Infinity is what a call within this process may say for "without end".
    return low <= value <= _MOST_S or value == math.inf
