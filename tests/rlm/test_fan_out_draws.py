"""When items are drawn, and by whom: a rehearsal draws as Python does, and no further than the code is sure to."""

from collections import Counter

import pytest

from tests.rlm.plain import run

_START = """
P = [str(n) for n in range(6)]
r, n = [], 0
def ask(c):
    return llm_query(c)
def size(c):
    return len(llm_query(c))
"""
# An error comes before the first item is drawn.
_NOTHING = {
    "a list with a keyword": "list((ask(c) for c in P), x=1)",
    "a tuple with a keyword": "tuple((ask(c) for c in P), x=1)",
    "a set with a keyword": "set((ask(c) for c in P), x=1)",
    "a sum that begins with a text": "sum((size(c) for c in P), start='x')",
    "a text joined with a keyword": "','.join((ask(c) for c in P), x=1)",
    "a list of a map with a keyword": "list(map(ask, P), x=1)",
}
_DIFFERENT = {
    "a key that fails at the first item": "r = max((size(c) for c in P), key=lambda n: 1 / 0)",
    "a key that is asked for between two items": """
def key(x):
    global n
    n += 1
    return size(f'key {n}')
r = max((size(f'{n} {c}') for c in P), key=key)""",
    "a dict with another entry": """
def work():
    d = dict(((c, ask(c)) for c in P), other='1')
    return [ask(f'{len(d)} {c}') for c in P]
r = [work(), work()]""",
    "a map over a dict that an answer adds to": """
d = {'a': 1, 'b': 2, 'c': 3}
def f(c):
    a = ask(c)
    if a == 'A':
        d[a] = 1
    return a
r = list(map(f, d))""",
    "a map over a set that an answer adds to": """
d = set('abc')
def f(c):
    a = ask(c)
    if a:
        d.add(a)
    return a
r = list(map(f, d))""",
    "a map that may have been drawn already": """
def work():
    m = map(ask, P)
    if ask('no') == 'yes':
        list(m)
    rest = list(m)
    return [ask(f'{len(rest)} {c}') for c in P]
r = work() + work()""",
    "a map that a loop may have drawn from": """
def work(k=0):
    m = map(ask, P)
    if ask('no') == 'yes':
        for _ in m:
            break
    for _ in m:
        k += 1
    return [ask(f'{k} {c}') for c in P]
r = work() + work()""",
    "the keys of a dict that an answer adds to": """
d = {}
keys = d.keys()
for c in P:
    if ask(c) == '2':
        d[c] = 1
    r.append(ask(f'{len(keys)} {list(keys)} {c}'))""",
    "whether a dict has keys that an answer adds": """
d = {}
keys = d.keys()
for c in P:
    if ask(c) == '2':
        d[c] = 1
    if not keys:
        r.append(ask('none before ' + c))""",
    "an iterator over a list that an answer adds to": """
out = []
def work():
    rest = iter(out)
    for c in P:
        if ask(c) == '2':
            out.append(c)
    return ask(f'{list(rest)}') + ask(f'{len(P)}')
r = [work(), work()]""",
    "a class of errors that is asked for": """
def errors():
    ask('which?')
    return ValueError
for c in P:
    try:
        r.append(ask(c))
    except errors():
        pass""",
}


def compare(code):
    together, plain = run(_START + code), run(_START + code, fan_out=False)
    assert (together[0]["r"], together[1:3]) == (plain[0]["r"], plain[1:3])
    assert Counter(together[3].prompts) == Counter(plain[3].prompts)
    return plain


@pytest.mark.parametrize("expression", _NOTHING.values(), ids=_NOTHING)
def test_where_nothing_is_drawn_nothing_is_asked(expression):
    _, _, error, port = compare(f"r = {expression}")
    assert error.startswith("TypeError") and not port.prompts


@pytest.mark.parametrize("code", _DIFFERENT.values(), ids=_DIFFERENT)
def test_what_is_asked_in_a_draw_is_what_the_code_asks(code):
    compare(code)
