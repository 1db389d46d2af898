"""Compares a program with fan-out and without, for many kinds of answers."""

from collections import Counter

from tests.rlm.plain import run, shout
from tests.rlm.test_fan_out import plain_of

_START = """
import json, re
from collections import Counter
from functools import partial
from itertools import batched, chain, combinations, islice, pairwise, zip_longest
P = [str(n) for n in range(6)]
r, n = [], 0
def ask(c):
    return llm_query(c)
"""
_TEXTS = ["1: yes\nno", "3", '{"a": 1}', "", "x1", "a: b\n12", "B3", "2"]


def _by_prompt(shift):
    return lambda prompt: (_TEXTS[(sum(map(ord, prompt)) + shift) % len(_TEXTS)], None)


def always(text):
    return lambda prompt: (text, None)


_ANSWERS = [shout, *map(always, ["1", "", "x1 3:4\n5"]), *map(_by_prompt, range(0, len(_TEXTS), 2))]


def alike(code, answers=_ANSWERS):
    """In how many requests it asks if it is answered in capitals. Fails if fan-out changes anything."""
    batches = []
    for answer in answers:
        together, plain = (
            run(_START + code, answer=answer, varies=True, fan_out=fan_out) for fan_out in (True, False)
        )
        assert (plain_of(together[0]), together[1:3]) == (plain_of(plain[0]), plain[1:3])
        assert Counter(together[3].prompts) == Counter(plain[3].prompts)
        batches.append(len(together[3].batches))
    return batches[0]
