"""Code that a rehearsal has to leave: each of these asks otherwise if one guard of the rehearsal's is missing."""

import pytest

from tests.rlm.alike import alike

_PROGRAMS = {
    "two functions of which an answer chooses": """
def pick(a):
    if '1' in a:
        return ask
    else:
        return len
for p in P:
    if pick(llm_query(p)) is pick(llm_query('y' + p)):
        r.append(llm_query('same ' + p))""",
    "a loop that an answer ends before it returns": """
def work(p):
    for q in P[:3]:
        a = ask(p + q)
        if '1' in a:
            break
        if q == '2':
            return 'done'
    return 'broken'
for p in P:
    r.append(ask(f'{work(p)} {p}'))""",
    "what is done finally, whatever the answer": """
for p in P:
    try:
        a = llm_query(f'{n} {p}')
        if '3' in a:
            continue
    finally:
        n += 1""",
    "keys that an answer has changed": """
for p in P:
    keys = {'a': [], 'b': [0]}
    if '1' in llm_query(p):
        keys['a'].append(1)
    r.append(llm_query(p + ''.join(sorted('ab', key=lambda c: keys[c]))))""",
    "sorted sets, none of which is in another": """
for p in P:
    sets = sorted({frozenset('a'), frozenset('b'), frozenset('c'), frozenset(p)})
    r.append(llm_query(p + ''.join(''.join(one) for one in sets)))""",
    "whether a task has failed": """
with ThreadPoolExecutor(2) as pool:
    for p in P:
        done = pool.submit(len, p)
        r.append(llm_query(f'{done.exception()} {p}'))
del pool, done""",
    "a variable that a function sees later": """
def work():
    x = 'a'
    def inner(c):
        return llm_query(x + c)
    for p in P:
        x = 'b' + p
        r.append(inner(p))
work()""",
    "items that may be no keys": """
for p in P:
    try:
        found = json.loads(llm_query(p))
    except Exception:
        found = 0
    n += len(set([found]))
    r.append(llm_query(p + '!'))""",
    "drawn items that may be no keys": """
for p in P:
    try:
        found = json.loads(llm_query(p))
    except Exception:
        found = 0
    n += len(set(one for one in [found]))
    r.append(llm_query(p + '!'))""",
    "how many answers differ": """
for p in P:
    first = {a[:1] for a in [llm_query(p), llm_query(p + '!')]}
    second = {llm_query('1' + p), llm_query('2' + p)}
    r.append(llm_query(f'{len(first)} {len(second)} {p}'))""",
    "a match that is no list": """
for p in P:
    m = re.search('1', llm_query(p))
    r += [x for x in m]
    r.append(llm_query(p + '!'))""",
    "a list that grows by what is asked of it": """
r.append(llm_query('begin'))
r.extend(llm_query(f'{len(r)} {p}') for p in P)
r.append(llm_query('end'))""",
    "what a generator is counted by": """
for p in P:
    r.append(llm_query(f'{p} {Counter(one for one in "aab")}'))""",
    "a comparison that stops": """
for p in P:
    r.append(2 < int(p) < len(llm_query(p)))""",
    "arguments by name from a dict": """
def named(**given):
    return llm_query(str(given))
for p in P:
    r.append(named(**{'a': p}))""",
    "a generator that tries": """
def some():
    yield 'a'
    try:
        yield 'b'
    finally:
        pass
    yield 'c'
for one in some():
    r.append(llm_query(f'{len(r)} {one}'))""",
    "a function that is not followed": """
for p in P:
    r.append(llm_query(format(p, '>3')))""",
}
# Each raises an error, so that it asks only some of what it seems to ask.
_FAILING = {
    "a best one in reverse": "max(P, key=lambda p: len(ask(p)), reverse=True)",
    "a list with a key": "list(P, key=lambda p: len(ask(p)))",
    "keys that do not compare": "max(P, key=lambda p: 'x' + llm_query(p) if p == '0' else len(llm_query(p)))",
    "a pool's map with what it has not": "list(ThreadPoolExecutor(2).map(ask, P, unknown=1))",
    "a batch that is a text": "[llm_query_batched('abc') for _ in P]",
    "a batch with a prompt that is too deep": "llm_query_batched(['a', 'b', deep])",
    "a call with one argument too many": "[llm_query(p, None, 1) for p in P]",
    "a call by a name that is not there": "[llm_query(text=p) for p in P]",
    "a helper with one argument too many": "[ask(p, 1) for p in P]",
    "a helper by a name that is not there": "[ask(p, d=1) for p in P]",
    "a helper with one argument too few": "[both(p) for p in P]",
    "pairs of three": "dict((ask(p), 1, 2) for p in P)",
    "a sum of texts": "sum(ask(p) for p in P)",
}
_START = "def both(a, b):\n    return llm_query(a)\ndeep = []\nfor _ in range(300):\n    deep = [deep]\n"
_CATCHING = "try:\n    r = {}\nexcept (TypeError, ValueError) as error:\n    r = str(error)\ndel deep\n"


@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_what_a_rehearsal_cannot_follow_is_as_written(code):
    alike(code)


@pytest.mark.parametrize("expression", _FAILING.values(), ids=_FAILING)
def test_what_comes_after_an_error_is_not_asked(expression):
    alike(_START + _CATCHING.format(expression))
