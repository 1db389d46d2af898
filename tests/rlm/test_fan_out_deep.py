"""Recursion that goes by way of built-in functions: a rehearsal is never deeper than the code is sure to come."""

import sys
from collections import Counter

import pytest

from pylon.rlm.repl.protocol import SubReply
from tests.rlm.plain import run

_SUMMARIZE = """
def work(t, d=0):
    head = llm_query('Title for: ' + t)
    if len(t) < SHORT:
        return head
    parts = [t[:len(t) // 2 + 1], t[len(t) // 2 + 1:]]
    return {}
try:
    r = work('the quick brown fox')
except RecursionError:
    r = 'too deep'
"""
_WAYS = {
    "itself": "head + work(parts[0]) + work(parts[1])",
    "join": "head + ' '.join(work(p, d + 1) for p in parts)",
    "a list": "head + ' '.join([work(p, d + 1) for p in parts])",
    "map": "head + ' '.join(list(map(work, parts)))",
    "max": "str(max(len(work(p, d + 1)) for p in parts))",
    "sorted": "head + sorted(parts, key=work)[0]",
    "any": "str(any(work(p, d + 1) for p in parts))",
}


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_a_recursion_without_end_asks_what_it_asks_by_itself(way):
    # Not much more than a rehearsal could go into.
    before = sys.getrecursionlimit()
    frame, deep = sys._getframe(), 0
    while frame is not None:
        frame, deep = frame.f_back, deep + 1
    asked = {}
    for fan_out in (True, False):
        code = _SUMMARIZE.format(way).replace("SHORT", "1")
        sys.setrecursionlimit(deep + 400)
        try:
            variables, _, error, port = run(code, fan_out=fan_out)
        finally:
            sys.setrecursionlimit(before)
        assert (variables["r"], error) == ("too deep", None)
        asked[fan_out] = len(port.prompts)
    assert asked[True] <= asked[False]


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_a_recursion_that_ends_goes_out_together(way):
    code = _SUMMARIZE.format(way).replace("SHORT", "4")
    together, plain = run(code), run(code, fan_out=False)
    assert together[0]["r"] == plain[0]["r"]
    assert sorted(together[3].prompts) == sorted(plain[3].prompts)
    assert len(together[3].batches) < len(plain[3].batches)


@pytest.mark.parametrize(("deep", "batches"), [(29, 1), (30, 2)])
def test_a_rehearsal_enters_calls_to_a_depth_of_thirty(deep, batches):
    code = f"def f(n):\n    return llm_query('x') if n == 1 else f(n - 1)\nr = [f(2) for _ in 'ab'] + [f({deep + 1})]"
    assert len(run(code)[3].batches) == batches


@pytest.mark.parametrize(("deep", "batches"), [(29, 1), (30, 2)])
def test_where_the_code_is_thirty_calls_deep_no_rehearsal_begins(deep, batches):
    asks = "for p in 'ab':\n            llm_query(p)"
    code = f"def f(n):\n    if n == 1:\n        {asks}\n    else:\n        g(n - 1)\ng = [f][0]\n[g][0]({deep})"
    assert len(run(code)[3].batches) == batches


@pytest.mark.parametrize("way", [_WAYS["max"], _WAYS["sorted"]], ids=["max", "sorted"])
async def test_in_a_sandbox_too_it_asks_nothing_else_and_costs_no_variable(open_repl, way):
    asked = []

    async def answer(calls):
        asked.extend(calls.prompts)
        return [SubReply(prompt[-9:]) for prompt in calls.prompts]

    code = _SUMMARIZE.format(way).replace("SHORT", "1") + "print(kept, r)"
    repl = await open_repl(on_calls=answer)
    await repl.run("kept = 7\nplainly = globals()['llm_' + 'query']")
    plain = await repl.run(code.replace("llm_query", "plainly"))
    by_itself = Counter(asked)
    asked.clear()
    together = await repl.run(code)
    assert (together.error, together.stdout) == (plain.error, plain.stdout) == (None, "7 too deep\n")
    assert not Counter(asked) - by_itself
