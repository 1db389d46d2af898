"""What root models do with each answer before they ask again: taking it apart holds no call up, if it cannot fail."""

from collections import Counter

import pytest

from tests.rlm.plain import run

_START = "import json, re\nP = [str(n) for n in range(8)]\nr, n, line = [], 0, 'a: b'\n"
_EACH = "for p in P:\n    a = llm_query(p)\n"
_TOGETHER = {
    "labelled lines": """
    for line in a.strip().split('\\n'):
        if ':' in line:
            key, value = line.split(':', 1)
            r.append((key.strip(), value.strip()))""",
    "labelled lines, others skipped": """
    for line in a.splitlines():
        if not line.strip() or ':' not in line:
            continue
        r.append(line.split(':')[1].lower())""",
    "a label, if there is one": "    r.append(a.split(':')[-2] if ':' in a else a)",
    "lines that say something": "    r.append([line.strip('- ') for line in a.split('\\n') if line.strip()])",
    "lines, joined again": "    r.append('; '.join(line for line in a.splitlines() if line))",
    "any of these words": "    if any(word in a.lower() for word in ['1', 'yes']):\n        r.append(a)",
    "none of these words": "    if all(word not in a for word in P[:3]):\n        r.append(a)",
    "a line with a word": "    r.append(any('1' in line for line in a.splitlines()))",
    "the first label": """
    for label in ['1', 'entity', 'place']:
        if label in a.lower():
            r.append(label)
            break
    else:
        r.append('other')""",
    "the first line with a word": """
    found = None
    for line in a.splitlines():
        if '1' in line:
            found = line
            break
    r.append(found)""",
    "a pair, or none": """
    try:
        left, right = a.split(':')
    except ValueError:
        left, right = a, ''
    r.append((left, right))""",
    "a part, of which two errors are known": """
    try:
        r.append(int(a.split(':')[1]))
    except (ValueError, IndexError):
        r.append(0)""",
    "a number in a text": """
    try:
        n = int(re.search(r'\\d+', a).group())
    except Exception:
        n = 0
    r.append(n)""",
    "JSON with items": """
    try:
        for item in json.loads(a).get('items', []):
            r.append((item['name'], item.get('size', 0)))
    except Exception as e:
        print('no JSON', e)""",
    "JSON in a fence": """
    text = a.strip()
    if text.startswith('```'):
        text = text.split('```')[1]
    try:
        r.extend(json.loads(text))
    except json.JSONDecodeError:
        print('no JSON')
    except Exception as e:
        print('no list', e)""",
    "again until it is right": """
    for _ in range(3):
        a = llm_query(p)
        if a:
            break
    r.append(a)""",
}
# Each of them asks less than it seems to, or something else, when its answers are such.
_AS_WRITTEN = {
    "a condition that changes what it looked at": """
    if ':' in a and (a := p):
        try:
            left, right = a.split(':', 1)
        except ValueError:
            r.append(llm_query(p + '!'))""",
    "a condition that calls for a change": """
    line = a
    if ':' in line and changed():
        left, right = line.split(':', 1)
    r.append(llm_query(p + '!'))""",
    "one of two conditions": """
    if ':' in a or p:
        left, right = a.split(':', 1)
    r.append(llm_query(p + '!'))""",
    "another end of the loop around": """
    for q in P[:2]:
        r.append(q)
    else:
        if a == '3':
            break
    r.append(llm_query(p + '!'))""",
    "an iterator that may not have come to its end": """
    words = iter(P)
    found = any(word in a for word in words)
    r.append(llm_query(f'{p} {list(words)}'))""",
    "a first part that the next line may not have": """
    for line in a.splitlines():
        pass
    parts = a.split(' ')
    for line in (a + ':' + a + ':end').split(':'):
        print(parts[0])
        parts = line.split()
    r.append(llm_query(p + '!'))""",
    "a second condition that fails": """
    try:
        r.append([part for part in a.split(':') if part if int(part)])
    except ValueError:
        break
    r.append(llm_query(p + '!'))""",
    "a list that a loop over JSON may be": """
    try:
        for item in json.loads(a).get('items', r):
            n += 1
    except Exception:
        pass
    r.append(llm_query(f'{p} {n}'))""",
    "a function that JSON is read with": """
    try:
        json.loads(a, object_hook=lambda found: r.append(llm_query(p + '!')))
    except Exception:
        pass
    llm_query(f'{p} {len(r)}')""",
    "a function that a match is replaced by": """
    try:
        re.sub('[0-9]', lambda found: r.append(found[0]) or found[0], a)
    except Exception:
        pass
    llm_query(f'{p} {len(r)}')""",
    "an iterator that JSON may draw from": """
    words = iter(P)
    try:
        json.loads(a).join(words)
    except Exception:
        pass
    r.append(llm_query(f'{p} {list(words)}'))""",
}
_CHANGED = "def changed():\n    global line\n    line = 'none'\n    return True\n"
_ANSWERS = ["1: yes\nno", "3", '{"items": [{"name": "1"}]}', "[1, 2]", '"x"', "```[3]```", "", "1:2", "5:x"]


def _compare(code, answer):
    code = _START + _CHANGED + _EACH + code.lstrip("\n")
    together, plain = run(code, answer=answer, varies=True), run(code, answer=answer, fan_out=False, varies=True)
    assert (together[0]["r"], together[0]["n"], together[1:3]) == (plain[0]["r"], plain[0]["n"], plain[1:3])
    assert Counter(together[3].prompts) == Counter(plain[3].prompts)
    return [len(batch) for batch in together[3].batches]


def _various(prompt):
    return (_ANSWERS[sum(map(ord, prompt)) % len(_ANSWERS)], None)


@pytest.mark.parametrize("code", _TOGETHER.values(), ids=_TOGETHER)
def test_what_is_asked_before_goes_out_at_once(code):
    assert _compare(code, _various)[0] >= 8


@pytest.mark.parametrize("answer", _ANSWERS)
@pytest.mark.parametrize("code", _AS_WRITTEN.values(), ids=_AS_WRITTEN)
def test_what_may_end_or_change_by_an_answer_is_as_written(code, answer):
    _compare(code, lambda _: (answer, None))
    _compare(code, _various)
