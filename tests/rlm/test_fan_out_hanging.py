"""Code that asks less than it seems to, by what it is answered: nothing more is asked than it asks itself."""

import pytest

from tests.rlm.plain import run
from tests.rlm.shapes import START, asked

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


@pytest.mark.parametrize("code", HANGING.values(), ids=HANGING)
def test_what_may_ask_less_than_it_seems_does_not(code):
    asked(code)


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
