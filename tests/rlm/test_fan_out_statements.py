"""Statements in a rehearsal: each of these asks otherwise if one step of the rehearsal is missing."""

import pytest

from tests.rlm.alike import alike, always

_PROGRAMS = {
    "a variable of an outer function that an inner one changes": """
def work():
    x = 'a'
    def inner(p):
        if not p:
            nonlocal x
        x = 'b'
        return llm_query(x + p)
    for p in P:
        inner(p)
        r.append(llm_query(x + p))
work()""",
    "a lambda that may yield": """
f = lambda p: ask(p) if p else (yield)
for p in P:
    f(p)
    r.append(llm_query('x' + p))""",
    "a global that is changed after an early return": """
def work(p):
    global n
    if '1' in ask(p):
        return 'x'
    n += 1
    return 'x'
for p in P:
    r.append(llm_query(f'{work(p)} {n} {p}'))""",
    "an early return of another function": """
def pick(a):
    if '1' in a:
        return ask
    return len
for p in P:
    if pick(llm_query(p)) is pick(llm_query('y' + p)):
        r.append(llm_query('same ' + p))""",
    "the result of a function whose `finally` calls another": """
def note():
    return 'noted'
def work(p):
    try:
        return ask(p)
    finally:
        note()
for p in P:
    r.append(llm_query('x' + work(p)))""",
    "one more round, or the end": """
for p in P:
    for q in 'ab':
        if '1' in llm_query(q + p):
            continue
        break
    r.append(llm_query(p + q))""",
    "a count of the rounds that are not left early": """
for p in P:
    if '1' in llm_query(f'{n} {p}'):
        continue
    n += 1""",
    "a name with an annotation": """
x = 'old'
for p in P:
    x: str = 'new'
    r.append(llm_query(x + p))""",
    "a function that is defined anew": """
for p in P:
    def ask(c):
        return llm_query('!' + c)
    r.append(ask(p))""",
    "a module under another's name": """
import math as m
for p in P:
    import json as m
    r.append(llm_query(f'{m is json} {p}'))""",
    "a function under another's name": """
from math import floor as f
for p in P:
    from math import ceil as f
    r.append(llm_query(f'{f(0.5)} {p}'))""",
    "two thread pools at once": """
for p in P:
    with ThreadPoolExecutor(1) as a, ThreadPoolExecutor(1) as b:
        n += 1
    r.append(llm_query(f'{n} {p}'))
del a, b""",
    "a list that is added to, and whose name is given away": """
for p in P:
    x = ['a']
    x += (x := [p])
    r.append(llm_query(str(x)))""",
    "a set that is added to, and whose name is given away": """
for p in P:
    x = set('a')
    x |= (x := set(p))
    r.append(llm_query(str(sorted(x))))""",
    "a dict that is added to": """
d = {}
for p in P:
    d |= {p: 1}
    r.append(llm_query(str(d)))""",
    "a list in a dict that is added to": """
for p in P:
    x = []
    d = {'k': x}
    d['k'] += [p]
    r.append(llm_query(str(x)))""",
    "an attribute that is added to": """
import itertools
itertools.n = 0
for p in P:
    itertools.n += 1
    r.append(llm_query(f'{itertools.n} {p}'))
del itertools.n""",
    "lines, and what follows them": """
for p in P:
    for line in llm_query(p).splitlines():
        pass
    else:
        n += 1
    r.append(llm_query(f'{n} {p}'))""",
    "the first line, or one more call": """
def work(p):
    for line in llm_query(p).splitlines():
        return 'x'
    return ask(p + '?')
r = [work(p) for p in P]""",
    "as long as an answer says so": """
for p in P:
    n = 0
    while n < 3 and '1' in llm_query(p):
        n += 1
    r.append(llm_query(f'{n} {p}'))""",
    "a name that a loop may have left as it was": """
for p in P:
    x = 'none'
    for line in llm_query(p).splitlines():
        x = 'some'
    r.append(llm_query(x + p))""",
    "a deletion": """
for p in P:
    d = {'k': 1}
    del d['k']
    r.append(llm_query(f'{d} {p}'))""",
}
# Each raises an error before it asks most of what it seems to ask.
_FAILING = {
    "a condition that an answer does not meet": """
for p in P:
    assert '1' in llm_query(p)
    r.append(llm_query(p + '!'))""",
    "an annotation that is no name of anything": """
for p in P:
    x: missing = p
    r.append(llm_query(p))""",
    "an annotation that is none of its kind": """
for p in P:
    x: dict[str, missing] = {}
    r.append(llm_query(p))""",
    "an annotation of what is no name of anything": """
for p in P:
    x: list[missing] = []
    r.append(llm_query(p))""",
    "an annotation with a part that is missing": """
for p in P:
    x: json.missing = 1
    r.append(llm_query(p))""",
    "a result's annotation that is no name of anything": """
for p in P:
    def work(c) -> missing:
        return llm_query(c)
    r.append(work(p))""",
    "a condition that is not met": """
for p in P:
    r.append(llm_query(p))
    assert p != '2'""",
    "what is no thread pool": """
for p in P:
    with llm_query(p) as x:
        r.append(llm_query(p + '!'))""",
    "parsed JSON that may be no list": """
for p in P:
    try:
        found = json.loads(llm_query(p))
    except Exception:
        continue
    for one in found:
        pass
    r.append(llm_query(p + '!'))""",
    "a local variable that has no value yet": """
x = 'outer'
def work(p):
    if p == '3':
        x = 'inner'
    return llm_query(x + p)
r = [work(p) for p in P]""",
    "a local name that a match gives later": """
x = 'outer'
def work(p):
    r.append(llm_query(x + p))
    match p:
        case x:
            pass
for p in P:
    work(p)""",
    "a local name that an import gives later": """
x = 'outer'
def work(p):
    r.append(llm_query(x + p))
    import json as x
for p in P:
    work(p)""",
    "a local name that a function has later": """
x = 'outer'
def work(p):
    r.append(llm_query(x + p))
    def x():
        pass
for p in P:
    work(p)""",
    "a name that nothing has": """
for p in P:
    r.append(llm_query(p))
    missing""",
    "an error that is not the one to be caught": """
for p in P:
    try:
        n += int(llm_query(p))
    except KeyError:
        pass
    r.append(llm_query(p + '!'))""",
    "a part of a tuple that is changed": """
x = (1, 2)
for p in P:
    x[0] += 1
    r.append(llm_query(p))""",
}


@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_a_statement_means_what_is_written(code):
    alike(code)


@pytest.mark.parametrize("code", _FAILING.values(), ids=_FAILING)
def test_what_comes_after_a_statement_that_fails_is_not_asked(code):
    alike(code)


def test_a_value_that_goes_from_name_to_name_takes_as_many_rounds_as_there_are_names():
    code = """
for p in P:
    a = b = c = d = e = f = g = h = '0'
    for line in llm_query(p).splitlines():
        h, g, f, e, d, c, b, a = g, f, e, d, c, b, a, 'x'
    r.append(llm_query(h + p))"""
    alike(code, [always("1\n" * 9)])


def test_an_answer_that_is_nested_too_deep_for_a_prompt_ends_what_is_asked():
    code = """
for p in P:
    try:
        x = json.loads(llm_query(p))
    except Exception:
        continue
    llm_query(x)
    r.append(llm_query(p + '!'))"""
    alike(code, [always("[" * 300 + "]" * 300)])


def test_a_model_that_is_no_name_is_asked_once():
    alike("r = [llm_query(p, 1) for p in P]")
