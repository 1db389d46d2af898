"""Iterators of functions and of `itertools`, which are drawn from once, and by whoever comes first."""

import pytest

from tests.rlm.alike import alike

_PROGRAMS = {
    "the first items, then the rest": """
it = iter(P)
for x in islice(it, 2):
    r.append(llm_query(x))
r.append(llm_query('rest ' + ''.join(it)))
r.append(llm_query('end'))""",
    "an iterator of which an answer takes items": """
def work():
    it = iter(P)
    if ask('no') == 'NO':
        list(islice(it, 2))
    return [ask('q' + c) for c in it]
r = work() + work()""",
    "items that are drawn later": """
it = iter(P)
first = islice(it, 2)
next_ = [it.__next__()]
for x in first:
    r.append(llm_query(x))
del it, first""",
    "a chain that an answer draws from": """
def work():
    it = chain(P, 'ab')
    if ask('no') == 'NO':
        for _ in it:
            break
    return [ask('q' + c) for c in it]
r = work() + work()""",
    "a chain of a generator": """
def g():
    for p in P:
        yield llm_query(p)
for x in chain(g(), ['a']):
    r.append(llm_query('got ' + x))""",
    "the first items of a generator": """
def g():
    global n
    for p in P:
        n += 1
        yield p
for x in islice(g(), 3):
    r.append(llm_query(f'{n} {x}'))
r.append(llm_query(str(n)))
r.append(llm_query('x'))""",
    "a generator, filled up": """
def g():
    for p in P[:3]:
        yield llm_query(p)
for x, y in zip_longest(g(), P, fillvalue='z'):
    r.append(llm_query(x + y))""",
    "a list that grows while it is drawn from": """
Q = list(P)
for x in chain(Q, []):
    if len(Q) < 9:
        Q.append('n')
    r.append(llm_query(f'{x} {len(Q)}'))""",
    "a list that an answer lets grow": """
Q = list(P)
for x in chain(Q, []):
    a = llm_query(f'{x} {len(r)}')
    if '1' in a and len(Q) < 9:
        Q.append('n')
    r.append(a)""",
    "pairs of a list that an answer lets grow": """
Q = list(P)
for x, y in pairwise(Q):
    a = llm_query(x + y)
    if '12' in a and len(Q) < 9:
        Q.append('n')
    r.append(a)""",
    "a filter that lets its list grow": """
Q = list(P)
def keep(x):
    if x == '1' and len(Q) < 9:
        Q.append('9')
    return x != '2'
for x in filter(keep, Q):
    r.append(llm_query(x))""",
    "a filter by answers": """
r = list(filter(lambda p: '3' not in llm_query(p), P))""",
    "a filter that asks between two rounds": """
for x in filter(lambda p: llm_query(p), P):
    r.append(llm_query('later ' + x))""",
    "answers that are not empty": """
a = [llm_query(p) for p in P]
r = list(filter(None, a))
r += [llm_query(str(len(r))), llm_query('x')]""",
    "a filter that was drawn from": """
f = filter(None, P)
for x in f:
    break
for x in f:
    r.append(llm_query(x))
del f""",
    "matches that were drawn from": """
ms = re.finditer(r'\\d', 'a1b2c3d4')
next(ms)
for m in ms:
    r.append(llm_query(m.group()))
del ms, m""",
    "matches in a text": """
for m in re.finditer(r'\\d', 'a1b2c3d4'):
    r.append(llm_query(m.group() + str(m.start())))
del m""",
    "matches with their numbers": """
for i, m in enumerate(re.finditer(r'(\\d)', 'a1b2c3d4')):
    r.append(llm_query(m.group(1) + str(m.span())))
del m""",
    "matches in a comprehension": """
r = [llm_query(m.group(1)) for m in re.finditer(r'(\\d)', 'a1b2c3d4')]""",
    "matches in what a call gives": """
def t():
    global n
    n += 1
    return 'a1b2' * n
for m in re.finditer(r'\\d', t()):
    r.append(llm_query(f'{m.group()} {n}'))
del m""",
    "pairs of an iterator": """
it = iter(P)
for a, b in combinations(it, 2):
    r.append(llm_query(a + b + str(len(list(it)))))
del it""",
    "batches": """
for b in batched(P, 4):
    r += llm_query_batched([f'{x}' for x in b])""",
    "a partial": """
from functools import partial
f = partial(llm_query, model='m')
r = [f(p) for p in P]
g = partial(lambda q, p: llm_query(q + p), 'q')
r += [g(p) for p in P]
del f, g""",
    "a partial in a helper": """
from functools import partial
def work(p):
    f = partial(lambda q, w: llm_query(q + w), p)
    return f('x') + f(w='y')
r = [work(p) for p in P]""",
}

_ONCE = [
    "the first items of a generator",
    "matches in a text",
    "matches with their numbers",
    "matches in a comprehension",
    "matches in what a call gives",
    "pairs of an iterator",
    "batches",
    "a partial in a helper",
]


@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_an_iterator_is_drawn_from_as_the_code_draws(code):
    alike(code)


@pytest.mark.parametrize("name", _ONCE)
def test_a_loop_over_an_iterator_goes_out_at_once(name):
    assert alike(_PROGRAMS[name]) == 1
