"""What a rehearsal knows of values, and what it does not: each asks otherwise if one step of it is missing."""

import pytest

from tests.rlm.alike import alike

_PROGRAMS = {
    "a list that holds itself": """
x = []
x.append(x)
for p in P:
    max(x, x)
    some = []
    if '1' in llm_query(p):
        some.append(1)
    max(x, x)
    r.append(llm_query(p + '!'))
del x""",
    "a view of a dict that an answer adds to": """
for p in P:
    d = {}
    keys = d.keys()
    if '1' in llm_query(p):
        d['k'] = 1
    r.append(llm_query(f'{p} {keys}'))
del keys""",
    "a written set that an answer adds to": """
for p in P:
    s = {'a', 'b'}
    if '1' in llm_query(p):
        s.add('q')
    r.append(llm_query(f"{p} {'q' in s}"))""",
    "a list that an answer gives a place": """
from collections import defaultdict
d = defaultdict(list)
for p in P:
    x = []
    d[llm_query(p)] = x
    d[llm_query(p + '?')].append(1)
    r.append(llm_query(f'{p} {len(x)}'))""",
    "a list that an answer has made before": """
from collections import defaultdict
for p in P:
    d = defaultdict(list)
    d[llm_query(p)].append(p)
    r.append(llm_query(f"{p} {d[llm_query(p + '?')]}"))""",
    "an item that an answer changes": """
x = ['a']
for p in P:
    if '1' in llm_query(p):
        x[0] = 'b'
    r.append(llm_query(x[0] + p))""",
    "constants that are one object": """
for p in P:
    a = 1000
    b = 1000
    r.append(llm_query(f'{p} {a is b}'))""",
    "an iterator that an answer draws from": """
for p in 'ab':
    items = iter(P)
    if '1' in llm_query(p):
        '0' in items
    r.append(llm_query(p + ''.join(items)))
del items""",
    "an order that depends on what a set has held": """
s = {frozenset({i}) for i in range(40)}
for i in range(37):
    s.discard(frozenset({i}))
for p in P:
    s.discard(frozenset({39}))
    s.add(frozenset({1}))
    r.append(llm_query(f'{sorted(s)} {p}'))""",
    "a comparison of lists that hold what an answer changes": """
for p in P:
    x = []
    if '1' in llm_query(p):
        x.append(1)
    y = [x]
    r.append(llm_query(f'{p} {y == [[]]}'))""",
}
# Each raises an error before it asks most of what it seems to ask.
_FAILING = {
    "a number that is too long for a text": """
def work():
    d = {}
    for p in P:
        d[llm_query(p)] = 10 ** 5000
        str(d)
work()""",
    "a list that gets a number too long for a text": """
def work():
    x = []
    if '1' in llm_query('a'):
        x.append(10 ** 5000)
    str(x)
    for p in P:
        r.append(llm_query(p))
work()""",
    "a prompt that is nested too deep": """
for _ in range(300):
    r = [r]
x = r
r = []
for p in P:
    r.append(llm_query([x]))
    r.append(llm_query(p))""",
    "a letter that an answer lacks": """
for p in P:
    llm_query(p)[30]
    r.append(llm_query(p + '!'))""",
}


@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_a_value_is_what_it_is_without_fan_out(code):
    alike(code)


@pytest.mark.parametrize("code", _FAILING.values(), ids=_FAILING)
def test_what_comes_after_a_value_that_fails_is_not_asked(code):
    alike(code)
