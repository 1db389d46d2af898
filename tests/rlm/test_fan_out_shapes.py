"""Loops as root models write them, which go out at once."""

import pytest

from tests.rlm.shapes import asked

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


@pytest.mark.parametrize("code", TOGETHER.values(), ids=TOGETHER)
def test_what_models_write_goes_out_at_once(code):
    assert asked(code) == (1, 8)
