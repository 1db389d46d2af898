"""Fan-out changes when sub-calls go out, and nothing else: neither what a program does nor which calls it makes."""

import signal
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st

from tests.rlm.helper_programs import helper_programs
from tests.rlm.plain import run
from tests.rlm.programs import programs


def plain_of(value, depth=0):
    """A value for comparison: functions and classes are made anew by every run."""
    if isinstance(value, dict):
        return {str(key): plain_of(item, depth + 1) for key, item in value.items() if depth < 4}
    if isinstance(value, list | tuple):
        return [plain_of(item, depth + 1) for item in value]
    return sorted(map(str, value)) if isinstance(value, set) else repr(value).split(" at 0x")[0]


def answer(prompt):
    return ("no model", "failed") if "two" in prompt else (prompt.upper(), None)


class Endless(BaseException):
    """Not an Exception: programs catch those."""


@contextmanager
def at_most(seconds):
    """Of processor time. A generated loop may run over a list that it makes longer."""

    def end(*_):
        raise Endless

    before = signal.signal(signal.SIGVTALRM, end)
    # Again and again: what is raised while something is being deleted is swallowed.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def various(prompt):
    """By what the prompt is: numbers, JSON, several lines, failures."""
    texts = [
        prompt.upper(),
        "7",
        "NONE",
        "A: b\nc",
        '{"a": 1}',
        "",
        "a: b",
        '{"a": ["b", {"c": 2}], "b": {}}',
        '["a", 3]',
    ]
    place = sum(map(ord, prompt)) % (len(texts) + 1)
    return ("no model", "failed") if place == len(texts) else (texts[place], None)


def compare(code, answer=answer, limit=100_000, varies=False):
    try:
        with at_most(0.5):
            plain = run(code, fan_out=False, answer=answer, limit=limit, varies=varies)
    except Endless:
        reject()
    with at_most(20):
        with_fan_out = run(code, answer=answer, limit=limit, varies=varies)
    assert plain_of(with_fan_out[0]) == plain_of(plain[0])
    assert with_fan_out[1:3] == plain[1:3]
    assert Counter(with_fan_out[3].prompts) == Counter(plain[3].prompts)
    return len(with_fan_out[3].batches), len(plain[3].batches)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_a_program_gives_the_same_and_asks_the_same(code):
    fanned, plain = compare(code)
    event("asked together" if fanned < plain else "one by one")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(helper_programs(), st.sampled_from([100_000, 100_000, 5]), st.booleans())
def test_a_program_with_helpers_gives_the_same_and_asks_the_same(code, limit, varies):
    fanned, plain = compare(code, various, limit, varies)
    event("asked together" if fanned < plain else "one by one")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(helper_programs(), st.sampled_from([100_000, 100_000, 5]), st.booleans())
def test_twenty_thousand_programs_with_helpers_give_the_same_and_ask_the_same(code, limit, varies):
    compare(code, various, limit, varies)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs(), st.booleans())
def test_twenty_thousand_programs_give_the_same_and_ask_the_same(code, varies):
    compare(code, varies=varies)
