"""Reads questions and bounds as callers write them, and checks them before anything is asked."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from pylon.jobs.fit import misfit
from pylon.jobs.parameters import MAX_MODEL, MAX_TOKENS
from pylon.jobs.size import MAX_EVENT_BYTES, text_bytes
from pylon.money.msat import MAX_MSAT
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import JobFailed, JobSpec, failed

# Seconds. The end of a much longer time cannot be written in an event.
LONGEST_S = 10_000_000_000
_MOST = 2**63


def spec_of(job: object, parameters: Mapping[str, Any]) -> JobSpec:
    """The job of a prompt or a `JobSpec`, with further parameters. Raises `TypeError` for anything else.

    Lists may stand for tuples, and messages may be `{"role": …, "content": …}` as other programs write them.
    """
    if isinstance(job, str):
        spec = JobSpec(job, **parameters)
    elif isinstance(job, JobSpec):
        spec = replace(job, **parameters) if parameters else job
    else:
        raise TypeError(f"a job must be a str or a JobSpec, not {type(job).__name__}")
    if isinstance(spec.stop, tuple) and spec.messages is None:
        return spec
    return replace(spec, stop=_stops(spec.stop), messages=_pairs(spec.messages))


def check_jobs(jobs: object) -> None:
    """Raises `TypeError` for one question in place of a list, whose characters would be asked one by one."""
    if isinstance(jobs, (str, bytes, JobSpec)):
        raise TypeError(
            f"jobs must be a list of questions, not a single {type(jobs).__name__}; use `complete` for one question"
        )


def fault_in(spec: JobSpec) -> str:
    """Why this question is malformed, in a few words for people, or empty if it is not.

    What only a provider would refuse is not looked at.
    """
    if not isinstance(spec.prompt, str):
        return "prompt must be text"
    rest = _rest(spec)
    try:
        # Cached, since jobs of a run differ in their prompts only. Typed: True equals 1, and is no number of tokens.
        fault = _fault(*rest)
    except TypeError:
        # A schema has no hash.
        fault = _fault.__wrapped__(*rest)
    if not fault and spec.messages is None and _is_blank(spec.prompt) and _is_blank(spec.system or ""):
        # A model would answer it all the same, and its provider would charge for that.
        return "the prompt is empty"
    return fault


def malformed(fault: str) -> JobFailed:
    """The outcome of a malformed question."""
    return failed(Failure.MALFORMED, None, 0, fault)


def unaskable(spec: JobSpec, *, plain: bool) -> JobFailed | None:
    """The outcome of a question that no provider can be asked; None if it can be. `plain` as in `SwarmSettings`.

    Whether the whole request fits one event is seen when it is made.
    """
    if fault := fault_in(spec):
        return malformed(fault)
    # The open form is not encrypted, and so holds some texts that a private request does not.
    open_form = plain and text_bytes(spec.prompt) <= MAX_EVENT_BYTES
    if spec.messages is None and not open_form and (why := misfit(spec.prompt)):
        return failed(Failure.TOO_LARGE, None, 0, why)
    return None


def check_bounds(deadline_s: object, budget_msat: object, priority: object) -> None:
    """Checks the bounds of a run. Raises `TypeError`, `ValueError`."""
    if deadline_s is not None and (isinstance(deadline_s, bool) or not isinstance(deadline_s, (int, float))):
        raise TypeError(f"deadline_s must be a number of seconds, not {type(deadline_s).__name__}")
    # "Not at least" and not "below": nothing compares with a NaN. Infinity means no deadline.
    if deadline_s is not None and not (0 <= deadline_s <= LONGEST_S or deadline_s == math.inf):
        raise ValueError(f"deadline_s must be from 0 to {LONGEST_S} seconds, or infinity")
    for name, value, low in (("budget_msat", budget_msat, 0), ("priority", priority, -_MOST)):
        if value is None and name != "priority":
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
        if not low <= value < _MOST:
            raise ValueError(f"{name} must be a whole number of at most 64 bits{'' if low else ', zero or more'}")


def _stops(given: Any) -> Any:
    if isinstance(given, str):
        return (given,)
    return tuple(given) if isinstance(given, list) else given


def _pairs(given: Any) -> Any:
    if not isinstance(given, (list, tuple)):
        return given
    return tuple(
        (each.get("role"), each.get("content"))
        if isinstance(each, dict)
        else (tuple(each) if isinstance(each, list) else each)
        for each in given
    )


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    # `isfinite` is asked of floats only: it raises for an integer that no float holds.
    return (isinstance(value, float) and math.isfinite(value)) or _is_whole(value)


def _is_stop(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


def _is_chat(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(map(_is_text, pair)) for pair in value
    )


def _within(low: int, high: float) -> Callable[[Any], bool]:
    return lambda value: _is_whole(value) and low <= value <= high


_OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "system": (_is_text, "text"),
    "messages": (_is_chat, "pairs of a role and a content, both text"),
    "model": (lambda value: _is_text(value) and 1 <= len(value) <= MAX_MODEL, f"text of 1 to {MAX_MODEL} characters"),
    "max_tokens": (_within(1, MAX_TOKENS), f"a whole number from 1 to {MAX_TOKENS}"),
    "temperature": (_is_number, "a number"),
    "top_p": (_is_number, "a number"),
    "top_k": (_is_whole, "a whole number"),
    "frequency_penalty": (_is_number, "a number"),
    "seed": (_is_whole, "a whole number"),
    "schema": (lambda value: isinstance(value, dict), "a JSON schema, which is an object"),
    "bid_msat": (_within(0, MAX_MSAT), "a whole number of msat, not below zero"),
}
_NEEDED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "stop": (_is_stop, "a text or a list of texts"),
    "timeout": (
        lambda value: _is_number(value) and 0 <= value <= LONGEST_S,
        f"a number of seconds, up to {LONGEST_S}",
    ),
    "votes": (_within(1, math.inf), "a whole number of one or more"),
    "stream": (lambda value: isinstance(value, bool), "true or false"),
}
_NAMES = tuple(one.name for one in fields(JobSpec) if one.name != "prompt")
_rest = attrgetter(*_NAMES)


@lru_cache(maxsize=64, typed=True)
def _fault(*values: object) -> str:
    for name, value in zip(_NAMES, values, strict=True):
        if name in _OPTIONAL and value is None:
            continue
        is_good, must = _OPTIONAL[name] if name in _OPTIONAL else _NEEDED[name]
        if not is_good(value):
            return f"{name} must be {must}"
    return ""
