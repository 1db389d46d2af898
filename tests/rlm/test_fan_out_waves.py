"""Helpers and stages: in how many waves their calls go out, each of which needs the one before."""

import pytest

from tests.rlm.shapes import asked

ASK = "def ask(c):\n    return llm_query(f'about {c}')\n"

# With how many times something is sent: each wave needs the one before.
HELPERS = {
    "a helper in a comprehension": (ASK + "r = [ask(p) for p in P]", 1),
    "a helper in a loop": (ASK + "for p in P:\n    r.append(ask(p))", 1),
    "a helper in pairs": (ASK + "r = dict((p, ask(p)) for p in P)", 1),
    "a helper in map": (ASK + "r = list(map(ask, P))", 1),
    "a lambda in map": ("r = list(map(lambda p: llm_query(p), P))", 1),
    "map": ("r = list(map(llm_query, P))", 1),
    "a helper in a pool": (ASK + "with ThreadPoolExecutor() as ex:\n    r = list(ex.map(ask, P))", 1),
    "a helper, submitted": (
        ASK
        + "with ThreadPoolExecutor() as ex:\n    f = [ex.submit(ask, p) for p in P]\n    r = [x.result() for x in f]",
        1,
    ),
    "a helper, submitted into a dict": (
        ASK + "with ThreadPoolExecutor(4) as ex:\n    f = {ex.submit(ask, p): p for p in P}\n"
        "    for x in as_completed(f):\n        r.append((f[x], x.result()))\nr.sort()\ndel f, x",
        1,
    ),
    "a helper, submitted into a dict in a loop": (
        ASK + "f = {}\nwith ThreadPoolExecutor(4) as ex:\n    for p in P:\n        f[ex.submit(ask, p)] = p\n"
        "r = sorted(x.result() for x in f)\ndel f",
        1,
    ),
    "a helper, submitted into a set": (
        ASK + "with ThreadPoolExecutor(4) as ex:\n    f = {ex.submit(ask, p) for p in P}\n"
        "    r = sorted(x.result() for x in f)\ndel f",
        1,
    ),
    "while": ("i = 0\nwhile i < len(P):\n    r.append(llm_query(P[i]))\n    i += 1", 1),
    "one after the other": ("r = [llm_query('x')]\na = llm_query('y')\nb = llm_query('z')\nr += [a, b]", 1),
    "two stages": ("for p in P:\n    a = llm_query(p)\n    r.append(llm_query('check ' + a))", 2),
    "two stages in a helper": (
        "def work(p):\n    a = llm_query(p)\n    return llm_query('check ' + a)\nr = [work(p) for p in P]",
        2,
    ),
    "three stages": (
        "for p in P:\n    a = llm_query(f'about {p}')\n    b = llm_query('check ' + a)\n"
        "    r.append(llm_query('{} or {}?'.format('right', b)))",
        3,
    ),
    "three stages that begin with answers": (
        "for p in P:\n    a = llm_query(p)\n    b = llm_query(f'{a}, is it so?')\n"
        "    r.append(llm_query(b + ', really?'))",
        3,
    ),
    "and then all of them": (ASK + "r = [ask(p) for p in P]\nr.append(llm_query('\\n'.join(r)))", 2),
    "an answer that is added to": (
        "for p in P:\n    a = llm_query(p)\n    a += '!'\n    r.append(llm_query('check ' + a))",
        2,
    ),
    "an answer that is added to in a dict": (
        "d = {}\nfor p in P:\n    d[p] = llm_query(p)\n    d[p] += '!'\n    r.append(llm_query('check ' + d[p]))",
        2,
    ),
    "in a tree": (
        "r = P\nwhile len(r) > 1:\n    r = [llm_query(' '.join(r[i:i + 2])) for i in range(0, len(r), 2)]",
        3,
    ),
    "by halves": (
        """
def solve(t):
    if len(t) == 1:
        return llm_query(t[0])
    return solve(t[:len(t) // 2]) + solve(t[len(t) // 2:])
r = solve(P)""",
        1,
    ),
    "a counter": (
        "n = 0\ndef ask(c):\n    global n\n    n += 1\n    return llm_query(f'{n}: {c}')\nr = [ask(p) for p in P]",
        1,
    ),
    "a cache": (
        """
d = {}
def ask(c):
    if c not in d:
        d[c] = llm_query(c)
    return d[c]
r = [ask(p) for p in P + P]""",
        1,
    ),
    "a number, or none": (
        """
def ask(c):
    a = llm_query(c)
    try:
        return int(a)
    except ValueError:
        return 0
r = [ask(p) for p in P]""",
        1,
    ),
    "no answer, no entry": (
        """
def ask(c):
    a = llm_query(c)
    if 'NONE' in a:
        return None
    return a.strip()
for p in P:
    a = ask(p)
    if a:
        r.append(a)""",
        1,
    ),
    "again where it failed": (
        """
def ask(c):
    a = llm_query(c)
    if '3' in a:
        a = llm_query(c + '!')
    return a
r = [ask(p) for p in P]""",
        2,
    ),
    "batches": ("def ask(c):\n    return llm_query_batched([c, c + '!'])\nr = [ask(p) for p in P]", 1),
}

ALONE = {
    "what was said so far": "a = ''\nfor p in P:\n    a = llm_query(a + p)\nr = a",
    "until it is found": "for p in P:\n    a = llm_query(p)\n    if 'x' in a:\n        break\n    r.append(a)",
}


@pytest.mark.parametrize(("code", "waves"), HELPERS.values(), ids=HELPERS)
def test_helpers_and_stages_go_out_in_as_few_waves_as_their_answers_allow(code, waves):
    assert asked(code)[0] == waves


@pytest.mark.parametrize("code", ALONE.values(), ids=ALONE)
def test_what_hangs_on_each_answer_goes_one_by_one(code):
    together, plain = asked(code)
    assert together == plain > 1
