"""Reads the parameters of a call. Each function raises `UsageError`, which names the parameter, for a wrong type.

A parameter of None counts as not given, and is `default` then.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pylon.errors import UsageError

type Params = Mapping[str, Any]

# The largest integer that SQLite stores.
_MOST = 2**63 - 1
# The most jobs of one map: a node reads so many in seconds, and holds them in some hundred MiB.
MOST_JOBS = 250_000
# So many jobs are handled, in some milliseconds, before the event loop gets a turn.
AT_ONCE = 500
# The most seconds, and the latest Unix time: no time in an event is beyond it.
_MOST_S = 10_000_000_000


def whole[T](params: Params, name: str, default: T, *, low: int = 0) -> int | T:
    """A whole number of at least `low`."""
    value = params.get(name)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= _MOST:
        raise UsageError(f"{name} must be a whole number from {low} to {_MOST}")
    return value


def number[T](params: Params, name: str, default: T, *, low: float = 0.0) -> float | T:
    """A number of at least `low`, such as seconds or a Unix time. Infinity is allowed."""
    value = params.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_within(value, low):
        raise UsageError(f"{name} must be a number from {low:g} to {_MOST_S}")
    return value


def text[T](params: Params, name: str, default: T) -> str | T:
    """A string."""
    value = params.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text")
    return value


def flag(params: Params, name: str) -> bool:
    """True or false; false if it is not given."""
    value = params.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false")
    return bool(value)


def job_list(params: Params) -> Sequence[object]:
    """The `jobs` of a run, at most `MOST_JOBS`; their content is not checked."""
    jobs = params.get("jobs") or ()
    if not isinstance(jobs, (list, tuple)):
        raise UsageError("jobs must be a list of jobs")
    if len(jobs) > MOST_JOBS:
        raise too_many_jobs(MOST_JOBS)
    return jobs


def too_many_jobs(most: int) -> UsageError:
    """The error for a run of more than `most` jobs."""
    return UsageError(f"a run takes at most {most:,} jobs", hint="Split it into several runs.")


def _is_within(value: float, low: float) -> bool:
    # Infinity stands for "without end". JSON cannot hold it, so only calls within this process use it.
    return low <= value <= _MOST_S or value == math.inf
