"""Loops as root models write them: which go out together, and which may not."""

import pytest

from tests.rlm.plain import run

START = """
import json
P = [f'{n}' for n in range(8)]
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
    "a part": """
for p in P:
    try:
        x = llm_query(p).split(':')[1]
    except Exception:
        x = ''
    r.append(x)""",
}

# Each of them would ask less than that, when its answers are such.
ONE_BY_ONE = {
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
    "what the next line finds": """
for p in P:
    n = len(r)
    a = llm_query(p + '\\n' + p)
    for line in a.splitlines():
        print(n + 1)
        n = line""",
}


def asked(code):
    """How many calls were sent with others, and by themselves: with fan-out, and without."""
    together, plain = run(START + code), run(START + code, fan_out=False)
    assert together[0]["r"] == plain[0]["r"] and together[1:3] == plain[1:3]
    assert sorted(together[3].prompts) == sorted(plain[3].prompts)
    return len(together[3].batches), len(plain[3].batches)


@pytest.mark.parametrize("code", TOGETHER.values(), ids=TOGETHER)
def test_what_models_write_goes_out_at_once(code):
    assert asked(code) == (1, 8)


@pytest.mark.parametrize("code", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
def test_what_may_ask_less_than_it_seems_does_not(code):
    together, plain = asked(code)
    assert together == plain
