"""Items that an answer leaves out, rounds that it ends, and values that it leads to."""

import pytest

from tests.rlm.alike import alike

_PROGRAMS = {
    "some answers, put together": """
for q in 'ab':
    a = [llm_query(q + p) for p in P]
    good = [x for x in a if '3' not in x]
    r.append(llm_query('\\n'.join(good)))""",
    "another call for some answers": """
a = [llm_query(p) for p in P]
r = [llm_query('again ' + p) for p, x in zip(P, a) if '3' in x]
r.append(llm_query('end'))""",
    "some answers as numbers": """
a = [llm_query(p) for p in P]
try:
    r = [int(x) for x in a if '3' in x]
except ValueError:
    r = [llm_query('bad'), llm_query('worse')]
r.append(llm_query('end'))""",
    "a list that some answers add to": """
seen = []
a = [llm_query(p) for p in P]
x = [seen.append(y) for y in a if '3' in y]
r = [llm_query(f'{len(seen)} {p}') for p in P]""",
    "a set of some answers": """
for q in 'ab':
    a = [llm_query(q + p) for p in P]
    s = {x[:1] for x in a if '3' in x}
    r.append(llm_query(f'{q} {len(s)} {sorted(s)}'))""",
    "a dict of some answers": """
for q in 'ab':
    a = {p: llm_query(q + p) for p in P}
    s = {k: v for k, v in a.items() if '3' in v}
    r.append(llm_query(f'{q} {len(s)} {s}'))
    r.append(llm_query(f'{q} done'))""",
    "a count of some answers": """
for q in 'ab':
    a = [llm_query(q + p) for p in P]
    n += sum(1 for x in a if '3' in x)
    print(n)
r.append(n)""",
    "any of some answers": """
for q in 'ab':
    a = [llm_query(q + p) for p in P]
    b = any(p == '3' for p, x in zip(P, a) if '3' in x)
    r.append(llm_query(f'{q} {b}'))
    r.append(llm_query(q))""",
    "all of some answers": """
for q in 'ab':
    a = [llm_query(q + p) for p in P]
    b = all(p == '3' for p, x in zip(P, a) if '3' in x)
    r.append(llm_query(f'{q} {b}'))
    r.append(llm_query(q))""",
    "any answer about some answers": """
a = [llm_query(p) for p in P]
b = any(llm_query('b' + p) == 'B3' for p, x in zip(P, a) if x)
r.append(llm_query('end'))""",
    "an item of which an answer decides whether it counts": """
a = [llm_query(p) for p in P]
b = any(ask('b' + p) and p == '2' for p in P if p == '2' or '1' in a[0])
r.append(llm_query('end'))""",
    "a name given for some answers": """
a = [llm_query(p) for p in P]
k = 'none'
x = [k := y for y in a if '3' in y]
r = [llm_query(k + p) for p in P]""",
    "items for some answers": """
a = [llm_query(p) for p in P]
x = [y + z for y in a if '3' in y for z in P]
r.append(llm_query(str(len(x))))
r.append(llm_query('e'))""",
    "again unless it is good": """
def work(p):
    for i in range(3):
        a = llm_query(f'{p} {i}')
        if '2' in a:
            return a
        else:
            continue
    return 'none'
r = [work(p) for p in P]""",
    "again unless it is a number": """
def work(p):
    for i in range(3):
        a = llm_query(f'{p} {i}')
        try:
            return int(a)
        except ValueError:
            continue
    return 'none'
r = [work(p) for p in P]""",
    "again unless it is JSON": """
for p in P:
    for i in range(3):
        a = llm_query(f'{p} {i}')
        try:
            a = json.loads(a)
            break
        except Exception:
            continue
    else:
        a = 'none'
    r.append(a)""",
    "good, or no more of it": """
def work(p):
    for i in range(3):
        a = llm_query(f'{p} {i}')
        if '1' in a:
            return a
        else:
            break
    return ask(p)
r = [work(p) for p in P]""",
    "enough, or one more": """
for p in P:
    for i in range(3):
        a = llm_query(f'{p} {i}')
        if '1' in a:
            break
        else:
            n += 1
            continue
    r.append(llm_query(f'{p} {n}'))""",
    "the end of a helper, or the next item": """
def f():
    out = []
    for p in P:
        a = ask(p)
        if '3' in a:
            return out
        else:
            out.append(ask('x' + p))
            continue
    return [ask('never')]
r = f()""",
    "a count of what is no number": """
c = Counter()
c['1'] = 'x'
for p in P:
    try:
        c.update(llm_query(p).split())
    except TypeError:
        r.append(llm_query(p + '?'))
    r.append(llm_query(p + '!'))""",
    "a count that an answer adds to": """
c = Counter()
for p in P:
    a = llm_query(p)
    if '3' in a:
        c.update([p])
    r.append(llm_query(f'{p} {c}'))""",
    "a count that an answer leads to": """
c = Counter('ab')
d = {'k': c}
for p in P:
    x = d.get(llm_query(p), c)
    x.update(['q'])
    r.append(llm_query(f'{p} {c}'))""",
    "a set that an answer leads to": """
s, t = {'a'}, {'b'}
for p in P:
    x = s if '1' in llm_query(p) else t
    try:
        x.symmetric_difference_update({p})
    except Exception:
        pass
    r.append(llm_query(f'{p} {sorted(s)} {len(t)}'))""",
    "a text in three parts": """
for p in P:
    k, s, v = llm_query(p).partition(':')
    if s:
        r.append(llm_query(v))
    r.append(llm_query(p + '!'))""",
    "three parts for two names": """
try:
    for p in P:
        k, v = llm_query(p).partition(':')
except ValueError:
    pass
r.append(llm_query('end'))""",
    "lengths of lines": """
for p in P:
    a = [len(x) for x in llm_query(p).splitlines()]
    n = sum(a)
    print(n, a[0] if a else 0)
    r.append(llm_query(p + '!'))""",
}

_ONCE = ["a count of some answers"]


@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_what_an_answer_leaves_out_is_left_out(code):
    alike(code)


@pytest.mark.parametrize("name", _ONCE)
def test_what_an_answer_leaves_out_holds_no_call_up(name):
    assert alike(_PROGRAMS[name]) == 1
