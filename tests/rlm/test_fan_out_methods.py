"""Attributes and methods of values in a rehearsal: each asks otherwise if one step of the rehearsal is missing."""

import pytest

from tests.rlm.alike import alike, always

_START = "from collections import defaultdict\n"
_PROGRAMS = {
    "the class of a text": """
for p in P:
    r.append(llm_query(f'{p.__class__ is str} {p}'))""",
    "the real part of a number": """
for p in P:
    r.append(llm_query(f'{n.real} {p}'))""",
    "a list that an answer chooses": """
x, y = [], []
for p in P:
    z = x if '1' in llm_query(p) else y
    try:
        z.append(1)
    except Exception:
        pass
    r.append(llm_query(f'{len(x)} {p}'))""",
    "what a search is replaced by": """
def asked(m):
    return llm_query(m[0])
pattern = re.compile('.')
for p in P:
    r.append(pattern.sub(asked, p + 'b'))""",
    "a count in a list that holds what an answer changes": """
for p in P:
    x = []
    if '1' in llm_query(p):
        x.append(1)
    y = [x]
    r.append(llm_query(f'{p} {y.count([])}'))""",
    "a form that adds to a dict for some answers": """
d = defaultdict(int)
for p in P:
    if '1' in llm_query(p):
        '{a[k]}'.format_map({'a': d})
    r.append(llm_query(f'{len(d)} {p}'))""",
    "a field that adds to a dict for some answers": """
d = defaultdict(int)
for p in P:
    if '1' in llm_query(p):
        '{0[a]}'.format(d)
    r.append(llm_query(f'{len(d)} {p}'))""",
    "a view that is joined": """
for p in P:
    d = {'a': 1}
    keys = d.keys()
    if '1' in llm_query(p):
        d['k'] = 1
    r.append(llm_query(p + ''.join(keys)))
del keys""",
    "an iterator that is joined for some answers": """
for p in P:
    items = iter('xy')
    if '1' in llm_query(p):
        ''.join(items)
    r.append(llm_query(p + ''.join(items)))
del items""",
    "an iterator that is listed for some answers": """
for p in P:
    items = iter('xy')
    if '1' in llm_query(p):
        list(items)
    r.append(llm_query(p + ''.join(items)))
del items""",
    "a form for what an answer changes": """
for p in P:
    x = []
    if '1' in llm_query(p):
        x.append(1)
    r.append(llm_query('{} {}'.format(p, x)))""",
    "a list that is sorted in reverse": """
for p in P:
    x = ['b', 'c', 'a']
    x.sort(reverse=True)
    r.append(llm_query(f'{p} {x}'))""",
    "a list that a set extends": """
for p in P:
    s, x = {'a', 'b'}, []
    if '1' in llm_query(p):
        s.add('c')
    x.extend(s)
    r.append(llm_query(f'{len(x)} {p}'))""",
    "a list that another extends": """
for p in P:
    x, y = [], []
    if '1' in llm_query(p):
        y.append(1)
    x.extend(y)
    r.append(llm_query(f'{len(x)} {p}'))""",
    "an item that is removed as equal to what an answer changes": """
for p in P:
    x, y = [], [[[1]], [[]]]
    if '1' in llm_query(p):
        x.append(1)
    z = [x]
    y.remove(z)
    r.append(llm_query(f'{p} {y}'))""",
    "an item that an answer changes, and that is removed": """
for p in P:
    x = []
    if '1' in llm_query(p):
        x.append(1)
    y = [x, []]
    y.remove([])
    x = None
    r.append(llm_query(f'{y == [[]]} {p}'))""",
    "items that an answer changes, in their order": """
for p in P:
    x = []
    if '1' in llm_query(p):
        x.append(1)
    y = [[0], x]
    y.sort()
    r.append(llm_query(f'{y[0] is x} {p}'))""",
    "rounds for what an answer adds": """
for p in P:
    x, n = [], 0
    if '1' in llm_query(p):
        x.append(p)
    for one in x:
        n += 1
    r.append(llm_query(f'{n} {p}'))""",
    "a dict with a factory that asks": """
def made():
    return llm_query('made')
d = defaultdict(made)
for p in P:
    r.append(llm_query(p.translate(d)))
del d""",
    "a new dict with a factory that asks": """
def made():
    return llm_query('made')
for p in P:
    d = defaultdict(made)
    r.append(llm_query(p.translate(d)))
del d""",
    "a dict that a text is translated by, for some answers": """
d = defaultdict(int)
for p in P:
    if '1' in llm_query(p):
        'a'.translate(d)
    r.append(llm_query(f'{len(d)} {p}'))""",
    "a dict that a text is filled from, for some answers": """
d = defaultdict(int)
for p in P:
    if '1' in llm_query(p):
        '%(a)s' % d
    r.append(llm_query(f'{len(d)} {p}'))""",
    "rounds for the keys that an answer adds": """
for p in P:
    d, n = {}, 0
    keys = d.keys()
    if '1' in llm_query(p):
        d[p] = 1
    for one in keys:
        n += 1
    r.append(llm_query(f'{n} {p}'))
del keys""",
    "how many answers differ": """
for p in P:
    s = set([llm_query(p), llm_query('y' + p)])
    r.append(llm_query(f'{len(s)} {p}'))""",
    "how many words differ": """
for p in P:
    c = Counter(llm_query(p).split())
    r.append(llm_query(f'{len(c)} {p}'))""",
    "a function with variables of its own": """
x = 'mine'
g = type(ask)((lambda c: llm_query(x + c)).__code__, {'llm_query': llm_query, 'x': 'other'})
r = [g(p) for p in P]""",
    "a variable that the running code has given another value": """
def work():
    x = 'a'
    def inner(c):
        return llm_query(x + c)
    d = {'k': 1}
    del d['k']
    for p in P:
        x = 'b' + p
        r.append(inner(p))
work()""",
    "keys with code of their own": """
class Key:
    def __hash__(self):
        print('hash')
        return 1
d = {Key(): []}
for p in P:
    r.append(llm_query(f'{p in d} {p}'))
del d""",
    "members with code of their own": """
class Member:
    def __hash__(self):
        return hash('0')
    def __eq__(self, other):
        print('compared')
        return False
s = {Member()}
for p in P:
    r.append(llm_query(f"{'0' in s} {p}"))
del s""",
    "the keys that are left": """
d = {p: 1 for p in P}
keys = iter(d)
next(keys)
r = [llm_query(one) for one in keys]
del keys""",
    "the local variable, and not the global one": """
x = 'global'
def work(x):
    d = {'k': 1}
    del d['k']
    r.append(llm_query(x))
    r.append(llm_query(x + '!'))
work('local')""",
}
# Each raises an error before it asks most of what it seems to ask.
_FAILING = {
    "a method that parsed JSON lacks": """
for p in P:
    try:
        x = json.loads(llm_query(p))
    except Exception:
        continue
    x.get
    r.append(llm_query(p + '!'))""",
    "a key that parsed JSON is not": """
for p in P:
    try:
        x = json.loads(llm_query(p))
    except Exception:
        continue
    {}.get(x)
    r.append(llm_query(p + '!'))""",
    "a list that parsed JSON extends": """
for p in P:
    try:
        x = json.loads(llm_query(p))
    except Exception:
        continue
    [].extend(x)
    r.append(llm_query(p + '!'))""",
    "a count of parsed JSON": """
for p in P:
    try:
        x = json.loads(llm_query(p))
    except Exception:
        continue
    Counter().update(x)
    r.append(llm_query(p + '!'))""",
    "a form that an answer gives": """
for p in P:
    '{:{}}'.format('a', llm_query(p))
    r.append(llm_query(p + '!'))""",
    "a group that is not there": """
for p in P:
    re.sub('q', '\\\\2', llm_query(p))
    r.append(llm_query(p + '!'))""",
    "a dict that an answer adds a text to": """
for p in P:
    d = {'k': 1}
    if '1' in llm_query(p):
        d.update({'k': 'x'})
    d.get('k', 0) + 1
    r.append(llm_query(p + '!'))""",
    "a count of what is no number": """
for p in P:
    c = Counter()
    c['1'] = 'x'
    c.update(llm_query(p).split())
    r.append(llm_query(p + '!'))""",
    "an argument by a name": """
s = set()
for p in P:
    r.append(llm_query(p))
    s.add(p, key=1)""",
    "an answer that is not in a set": """
for p in P:
    s = {'a'}
    s.remove(llm_query(p))
    r.append(llm_query(p + '!'))""",
    "a text that is not in a set": """
s = set('01245')
for p in P:
    r.append(llm_query(p))
    s.remove(p)""",
    "a list as a key, for some answers": """
for p in P:
    d = {}
    if '1' in llm_query(p):
        d[[]] = 1
    r.append(llm_query(p + '!'))""",
    "a question about no class": """
for p in P:
    isinstance(llm_query(p), 'str')
    r.append(llm_query(p + '!'))""",
    "a question about nothing": """
for p in P:
    r.append(llm_query(p))
    isinstance(p)""",
    "a method that a thread pool lacks": """
def work():
    with ThreadPoolExecutor(2) as pool:
        for p in P:
            r.append(llm_query(p))
            pool.missing()
work()""",
    "a batch with a prompt that is nested too deep": """
for _ in range(210):
    r = [r]
x = r
r = []
for p in P:
    llm_query_batched([p, p + "!", x])""",
    "an attribute that a module lacks": """
for p in P:
    r.append(llm_query(p))
    json.missing""",
}


@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_a_method_does_what_it_does_without_fan_out(code):
    alike(_START + code)


@pytest.mark.parametrize("code", _FAILING.values(), ids=_FAILING)
def test_what_comes_after_a_method_that_fails_is_not_asked(code):
    alike(_START + code)


def test_parsed_json_that_is_a_text_may_draw_from_an_iterator():
    code = """
for p in P:
    items = iter('ab')
    try:
        json.loads(llm_query(p)).join(items)
    except Exception:
        pass
    r.append(llm_query(p + ''.join(items)))
del items"""
    alike(code, [always('"x"')])
