"""Loops over generators of the code's own: what they yield is known before they run, and nothing is drawn early."""

from collections import Counter

import pytest

from tests.rlm.plain import run

_START = """
P = [str(n) for n in range(8)]
r, n = [], 0
def chunks(items, size=1):
    for at in range(0, len(items), size):
        yield ' '.join(items[at:at + size])
def ask(c):
    return llm_query('about ' + c)
"""
_TOGETHER = {
    "a loop": "for c in chunks(P):\n    r.append(llm_query(c))",
    "a loop with a number": "for i, c in enumerate(chunks(P), 1):\n    r.append(llm_query(f'{i}: {c}'))",
    "a comprehension": "r = [ask(c) for c in chunks(P)]",
    "a map": "r = list(map(ask, chunks(P)))",
    "beside a list": "for c, p in zip(chunks(P), P):\n    r.append(llm_query(c + p))",
    "a generator that was made before": "made = chunks(P)\nfor c in made:\n    r.append(llm_query(c))",
    "in a function": "def work():\n    return [ask(c) for c in chunks(P)]\nr = work()",
    "with while": """
def pieces(text):
    at = 0
    while at < len(text):
        end = text.find(' ', at)
        if end < 0:
            yield text[at:]
            return
        yield text[at:end]
        at = end + 1
for c in pieces(' '.join(P)):
    r.append(llm_query(c))""",
    "of generators": """
def pairs(items):
    for c in items:
        if not c:
            continue
        yield c, len(c)
    yield from ()
for c, size in pairs(chunks(P)):
    r.append(llm_query(c * size))""",
    "that ask": """
def answers():
    for p in P:
        yield p, llm_query(p)
for p, a in answers():
    r.append(p + a)""",
    "that ask, in a list": "def answers():\n    for p in P:\n        yield llm_query(p)\nr = list(answers())",
}
_AS_WRITTEN = {
    "an end that an answer decides": """
for c in chunks(P):
    a = llm_query(c)
    if a == '3':
        break
    r.append(a)""",
    "a list that the loop makes longer": """
Q = ['0', '1']
def each():
    for q in Q:
        yield q
for q in each():
    if len(Q) < 9:
        Q.append(str(len(Q)))
    r.append(llm_query(q))""",
    "a list that an answer makes longer": """
Q = ['0', '1']
def each():
    at = 0
    while at < len(Q):
        yield Q[at]
        at += 1
for q in each():
    if llm_query(q) == '1':
        Q.append('more')
    r.append(llm_query(f'{q} {len(Q)}'))""",
    "one that counts": """
def counted():
    global n
    for p in P:
        n += 1
        yield p
for p in counted():
    r.append(llm_query(f'{n} {p}'))
    n += 1""",
    "one that is drawn from twice": """
made = chunks(P)
for c in made:
    r.append(llm_query(c))
    if len(r) == 3:
        break
for c in made:
    r.append(llm_query('rest ' + c))""",
    "one that may have been drawn from": """
def work():
    made = chunks(P)
    if ask('no') == 'ABOUT NO':
        for c in made:
            break
    return [ask(c) for c in made]
r = work() + work()""",
    "one that an answer ends": """
def until(stop):
    for p in P:
        if llm_query(p) == stop:
            return
        yield p
def work():
    return [ask(p) for p in until('4')]
r = work()""",
    "one that fails": """
def failing():
    for p in P:
        yield str(12 // (int(p) - 3))
try:
    for p in failing():
        r.append(llm_query(p))
except ZeroDivisionError as e:
    r.append(str(e))""",
    "more than there are names for": """
def asked():
    for p in P:
        yield llm_query(p)
try:
    a, b = asked()
except ValueError as e:
    r.append(str(e))
r.append(llm_query('end'))""",
    "one that is sent nothing": """
def told():
    for p in P:
        got = yield p
        if got is None:
            yield llm_query('none for ' + p)
r = [ask(p) for p in told()]""",
    "one that an answer makes go on": """
def some():
    for p in P:
        if ask(p) == 'ABOUT 3':
            continue
        yield p
for p in some():
    if ask('use ' + p) == '4':
        continue
    r.append(llm_query(p + '!'))""",
    "a step of the generator's own that goes on": """
def some():
    for p in P:
        for q in P[:2]:
            if q == '1':
                continue
        if p == '2':
            continue
        yield p
for p in some():
    if llm_query(p) == '4':
        continue
    r.append(llm_query(p + '!'))""",
}


def _compare(code):
    together, plain = run(_START + code, varies=True), run(_START + code, fan_out=False, varies=True)
    assert (together[0]["r"], together[0]["n"], together[1:3]) == (plain[0]["r"], plain[0]["n"], plain[1:3])
    assert Counter(together[3].prompts) == Counter(plain[3].prompts)
    return len(together[3].batches), len(plain[3].batches)


@pytest.mark.parametrize("code", _TOGETHER.values(), ids=_TOGETHER)
def test_what_is_asked_for_each_item_of_a_generator_goes_out_at_once(code):
    assert _compare(code) == (1, 8)


@pytest.mark.parametrize("code", _AS_WRITTEN.values(), ids=_AS_WRITTEN)
def test_a_generator_is_drawn_from_as_the_code_does(code):
    _compare(code)
