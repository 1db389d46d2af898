"""Fan-out changes when sub-calls go out, and nothing else: neither what a program does nor which calls it makes."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, event, given, settings

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


def compare(code):
    with_fan_out, plain = run(code, answer=answer), run(code, fan_out=False, answer=answer)
    assert plain_of(with_fan_out[0]) == plain_of(plain[0])
    assert with_fan_out[1:3] == plain[1:3]
    assert Counter(with_fan_out[3].prompts) == Counter(plain[3].prompts)
    return len(with_fan_out[3].batches), len(plain[3].batches)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_a_program_gives_the_same_and_asks_the_same(code):
    fanned, plain = compare(code)
    event("asked together" if fanned < plain else "one by one")


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_twenty_thousand_programs_give_the_same_and_ask_the_same(code):
    compare(code)
