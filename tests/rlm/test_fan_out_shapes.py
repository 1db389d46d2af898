"""Code as root models write it: what of it goes out together, and what has to wait for answers."""

import pytest

from pylon.rlm.repl.guest.concurrency import as_completed
from tests.rlm.plain import run

START = """
import json, re
from collections import Counter, defaultdict
P = [f'{n}' for n in range(8)]
words = re.compile(r'\\W+')
def star(*values):
    return list(values)
r = []
"""

TOGETHER = {
    "no failed ones": """
for p in P:
    a = llm_query(p)
    if not isinstance(a, SubCallError):
        r.append(a)""",
    "only text": """
for p in P:
    a = llm_query(p)
    if isinstance(a, str):
        r.append(a)""",
    "failed ones are left out": """
for p in P:
    a = llm_query(p)
    if isinstance(a, SubCallError):
        print('failed', a)
        continue
    if a.strip().lower() == 'none':
        continue
    r.append(a)""",
    "or else": """
for p in P:
    a = llm_query(p)
    if a:
        r.append(a)
    else:
        continue
    print(a)""",
    "elif": """
for p in P:
    a = llm_query(p)
    if a == 'none':
        continue
    elif a == 'maybe':
        print(p)
        continue
    r.append(a)""",
    "in a try": """
for p in P:
    try:
        a = llm_query(p)
        if 'none' in a:
            continue
        r.append(a)
    except Exception as e:
        print(e)""",
    "lines": """
for p in P:
    a = llm_query(p)
    for line in a.splitlines():
        if not line.strip():
            continue
        r.append(line)""",
    "skipped with a word": """
for p in P:
    if not p.strip():
        print('nothing')
        continue
    r.append(llm_query(p))""",
    "starred": "r = star(*(llm_query(p) for p in P))",
    "starred, beside others": "r = star(P, *(llm_query(p) for p in P if p), 1)",
    "json at once": """
for p in P:
    try:
        x = json.loads(llm_query(p))
    except Exception:
        x = None
    r.append(x)""",
    "json in two steps": """
for p in P:
    try:
        a = llm_query(p)
        r.append(json.loads(a))
    except Exception as e:
        print('no JSON', e)""",
    "json into a list": """
for p in P:
    try:
        r.append(json.loads(llm_query(p)))
    except Exception:
        r.append(None)""",
    "an assertion": """
for p in P:
    assert p
    r.append(llm_query(p))""",
    "a regular expression": """
for p in P:
    a = llm_query(p)
    r.extend(re.findall(r'\\d+', a))
    r.append(re.sub(r'\\s+', ' ', a))
    r.append(words.split(a))
    if re.search('none', a, re.I):
        continue
    r.append(a)""",
    "groups by what is asked": """
d = defaultdict(list)
for p in P:
    d[p[-1:]].append(llm_query(p))
r = sorted(d.items())""",
    "groups by what is answered": """
d = defaultdict(list)
for p in P:
    label = llm_query(p).strip()
    d[label].append(p)
    if label == '3':
        d[p].append(label)
r = sorted(d.items())""",
    "a count of answers": """
counts = Counter()
for p in P:
    counts[llm_query(p)] += 1
r = sorted(counts.items())""",
    "a count of answers in a defaultdict": """
counts = defaultdict(int)
for p in P:
    label = llm_query(p)
    counts[label] += 1
    print(label, counts[label])
r = sorted(counts.items())""",
    "a count of answers in a dict": """
counts = {}
for p in P:
    label = llm_query(p).lower()
    counts[label] = counts.get(label, 0) + 1
r = sorted(counts.items())""",
    "a text that is filled in": """
form = 'of {p}: {a} {}'
for p in P:
    a = llm_query('about {p}'.format(p=p))
    r.append(form.format(len(p), p=p, a=a))""",
    "the best": "r = [max(P, key=lambda p: len(llm_query(p)))]",
    "json with several handlers": """
for p in P:
    a = llm_query(p)
    try:
        r.append(json.loads(a))
    except json.JSONDecodeError:
        r.append('no JSON')
    except (KeyError, IndexError) as e:
        print(e)
        continue
    except Exception as e:
        print('what?', e)""",
    "a part": """
for p in P:
    try:
        x = llm_query(p).split(':')[1]
    except Exception:
        x = ''
    r.append(x)""",
}

# Each of them would ask less than it seems to, when its answers are such.
HANGING = {
    "continue leaves out a call": """
for p in P:
    a = llm_query(p)
    if p:
        if a == '3':
            continue
    r.append(llm_query(p + '!'))""",
    "a call behind a try that continues": """
for p in P:
    try:
        a = llm_query(p)
        if a == '3':
            continue
    except Exception:
        pass
    r.append(llm_query(p + '!'))""",
    "a call behind a handler that continues": """
for p in P:
    a = llm_query(p)
    try:
        x = json.loads(a)
    except Exception:
        if a == '3':
            continue
    r.append(llm_query(p + '!'))""",
    "an error keeps the call from being made": """
for p in P:
    try:
        x = max(str(int(p) // (int(p) - 3)), llm_query(p))
    except Exception:
        x = ''""",
    "an error keeps the second call from being made": """
for p in P:
    try:
        x = max(llm_query(p), str(5 // (int(p) - 3)), llm_query(p + '!'))
    except Exception:
        r.append(p)""",
    "an answer that is no number ends the loop": """
for p in P:
    try:
        x = llm_query(p)
        y = json.loads(x)
    except ValueError:
        y = 0
    r.append(y + 1)""",
    "a handler that fails": """
for p in P:
    try:
        x = json.loads(llm_query(p) + ',')
    except Exception:
        x = int('x')""",
    "a task that takes from the list that tasks are made of": """
def ask(p):
    P.remove(p)
    return llm_query(p)
with ThreadPoolExecutor(4) as ex:
    r = list(ex.map(ask, P))""",
    "a key that takes from the list that values come from": """
def key(p):
    P.remove(p)
    return len(llm_query(p))
r = max(P, key=key)""",
    "a count of what is no number": """
counts = {'x': 0}
for p in P:
    label = llm_query(p)
    counts[label] = counts.get(label, 0) + 1
    counts['x'] = label
    try:
        counts['x'] = counts.get('x', 0) + 1
    except TypeError:
        r.append(llm_query(p + '!'))""",
    "a defaultdict of what it does not make itself": """
d = defaultdict(list, {'3': None})
for p in P:
    try:
        d[llm_query(p)].append(p)
    except AttributeError:
        r.append(llm_query(p + '!'))""",
    "a list that an answer leads to": """
d = defaultdict(list)
mine = d['3']
for p in P:
    d[llm_query(p)].append(p)
    r.append(llm_query(f'{p} {mine}'))""",
    "a list that an answer leads to, added to": """
mine = []
d = {'3': mine}
for p in P:
    try:
        d[llm_query('3')] += [p]
    except Exception:
        pass
    r.append(llm_query(f'{p} {mine}'))""",
    "a method of llm_query that asks once": """
f = llm_query.__call__
for p in P:
    r.append(f([p, 'b']))
    r.append(llm_query(p))
del f""",
    "a defaultdict that is looked into": """
d = defaultdict(list)
for p in P:
    if llm_query(p) == '3':
        d[p].append(p)
    r.append(llm_query(f'{p} {len(d)} {dict(d)}'))""",
    "futures in a set, one after the other": """
with ThreadPoolExecutor(4) as ex:
    f = {ex.submit(json.loads, p) for p in P}
    for x in f:
        r.append(llm_query(f'{x.result()}'))
r.sort()
del f, x""",
    "what a form asks for": """
form = '{0.__class__} {1:{2}}'
for p in P:
    try:
        a = llm_query(p)
        r.append(llm_query(p + form.format(a, 'x', a)))
    except ValueError:
        r.append(p)""",
    "what a value is": """
for p in P:
    r.append(llm_query('{0.__class__} {1.__class__}'.format([p], p)))
    r.append(llm_query('{0[0].__class__}'.format([lambda x: x])))""",
    "a stage whose prompts may be those of another": """
for p in P:
    a = llm_query('check ' + p)
    b = llm_query(a.lower())
    r.append(llm_query(b + '!'))
    r.append(llm_query('check ' + b))""",
    "what the next line finds": """
for p in P:
    n = len(r)
    a = llm_query(p + '\\n' + p)
    for line in a.splitlines():
        print(n + 1)
        n = line""",
}


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


def asked(code):
    """How many calls were sent with others, and by themselves: with fan-out, and without."""
    given = {"as_completed": as_completed}
    together, plain = run(START + code, given=given), run(START + code, given=given, fan_out=False)
    assert together[0]["r"] == plain[0]["r"] and together[1:3] == plain[1:3]
    assert sorted(together[3].prompts) == sorted(plain[3].prompts)
    return len(together[3].batches), len(plain[3].batches)


@pytest.mark.parametrize("code", TOGETHER.values(), ids=TOGETHER)
def test_what_models_write_goes_out_at_once(code):
    assert asked(code) == (1, 8)


@pytest.mark.parametrize("code", HANGING.values(), ids=HANGING)
def test_what_may_ask_less_than_it_seems_does_not(code):
    asked(code)


@pytest.mark.parametrize(("code", "waves"), HELPERS.values(), ids=HELPERS)
def test_helpers_and_stages_go_out_in_as_few_waves_as_their_answers_allow(code, waves):
    assert asked(code)[0] == waves


@pytest.mark.parametrize("code", ALONE.values(), ids=ALONE)
def test_what_hangs_on_each_answer_goes_one_by_one(code):
    together, plain = asked(code)
    assert together == plain > 1


def test_calls_with_the_same_prompt_get_their_answers_in_turn():
    def answer(prompt):
        """The last stage of each item asks what the first stage of the next one asks."""
        number = prompt.strip("b!")
        return (str(int(number) + 1) if prompt.startswith("b") else "b" + prompt, None)

    code = START + "for p in P:\n    a = llm_query(p)\n    b = llm_query(a)\n    r += [a, b, llm_query(b)]"
    together, plain = (run(code, answer=answer, varies=True, fan_out=fan_out) for fan_out in (True, False))
    assert together[0]["r"] == plain[0]["r"] and sorted(together[3].prompts) == sorted(plain[3].prompts)


def test_of_a_cells_last_calls_those_are_refused_that_would_be_one_by_one():
    code = START + "for p in P:\n    r.append(llm_query(llm_query(p) + '!'))"
    together, plain = run(code, limit=7), run(code, fan_out=False, limit=7)
    assert sorted(together[3].prompts) == sorted(plain[3].prompts)
    assert [one.code if hasattr(one, "code") else one for one in together[0]["r"]] == [
        one.code if hasattr(one, "code") else one for one in plain[0]["r"]
    ]


def test_a_rehearsal_prints_nothing_and_changes_nothing():
    code = START + "def ask(c):\n    print(c)\n    P.append(c)\n    return llm_query(c)\nr = [ask(c) for c in P[:4]]"
    variables, output, error, port = run(code)
    assert (len(variables["P"]), output, error) == (12, "0\n1\n2\n3\n", None)
    assert [len(batch) for batch in port.batches] == [4]


def test_a_recursion_without_end_is_given_up_soon():
    code = START + "def ask(c):\n    a = ask(c + 'x')\n    b = llm_query(c)\n    return llm_query(a + b)\nask('')"
    assert run(code)[2].startswith("RecursionError")
