"""Forty programs as root models write them: fan-out changes nothing of what they do, and few requests are enough."""

from collections import Counter

import pytest

from tests.rlm.plain import run, shout
from tests.rlm.test_fan_out import plain_of, various
from tests.rlm.written import CONTEXT, WRITTEN

# In how many requests those ask that need an answer for a later prompt; any other in one.
_WAVES = {
    "line chunks joined": 2,
    "paragraphs with buffer": 2,
    "regex split with headers": 2,
    "hierarchical reduce": 4,
    "dict of results then filter": 2,
    "zip of prompts and answers": 2,
    "results list sorted and joined": 2,
    "main function": 2,
    "del and reuse": 2,
    "slice assign buf reset": 2,
    "list comp batched per doc with slices": 2,
    "votes": 2,
    "verify each answer": 2,
}


def _facts(prompt):
    return (f"1\nname: {prompt[:9]}\n{len(prompt)}\nSECTION 4 2024-01-02", None)


def _ran(code, answer, fan_out):
    return run(code, answer=answer, fan_out=fan_out, given={"context": CONTEXT, "__name__": "__main__"}, varies=True)


@pytest.mark.parametrize("answer", [shout, various, _facts])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_program_gives_the_same_and_asks_the_same(name, answer):
    together, plain = (_ran(WRITTEN[name], answer, fan_out) for fan_out in (True, False))
    assert (plain_of(together[0]), together[1:3]) == (plain_of(plain[0]), plain[1:3])
    assert Counter(together[3].prompts) == Counter(plain[3].prompts)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_program_asks_in_as_few_requests_as_its_answers_allow(name):
    assert len(_ran(WRITTEN[name], shout, fan_out=True)[3].batches) == _WAVES.get(name, 1)
