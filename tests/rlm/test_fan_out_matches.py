"""Searches in an answer: what a condition tells of a match, and what it does not."""

import pytest

from tests.rlm.alike import alike

_PROGRAMS = {
    "a group": """
for p in P:
    m = re.search(r'a(\\w*) (\\d)', llm_query(p))
    if m:
        r.append(m.group(1).strip() + m[2].strip() + str(m.start(1) + m.end()))""",
    "a group that has a name": """
for p in P:
    if (m := re.search(r'(?P<d>\\d)', llm_query(p))) is not None:
        r.append(m['d'].strip())
    else:
        r.append('')""",
    "a whole match, or nothing": """
for p in P:
    m = re.match('[a-z]|[0-9]', llm_query(p))
    r.append(m.group().strip() if m else '')
    if not m:
        continue
    r.append(m[0].strip())""",
    "a group that may take no part": """
for p in P:
    m = re.search(r'(x)?1', llm_query(p))
    if m:
        m.group(1).strip()
    r.append(llm_query(p + '!'))""",
    "a group of a choice": """
for p in P:
    m = re.search(r'(x)|1', llm_query(p))
    if m:
        m[1].strip()
    r.append(llm_query(p + '!'))""",
    "a group that is not there": """
for p in P:
    m = re.search(r'1', llm_query(p))
    if m:
        m.group(1)
    r.append(llm_query(p + '!'))""",
    "a list that is there and empty": """
for p in P:
    m = re.findall(r'x', llm_query(p))
    if m is not None:
        m[0]
    r.append(llm_query(p + '!'))""",
    "a group with a comment before its mark": """
for p in P:
    m = re.search(r'''(x) # one
 ?1''', llm_query(p), re.X)
    if m:
        m.group(1).strip()
    r.append(llm_query(p + '!'))""",
    "flags by name": """
for p in P:
    for m in re.finditer(r'''(x) ?1''', llm_query(p), flags=re.X):
        m.group(1).strip()
    r.append(llm_query(p + '!'))""",
    "a name that the condition gives twice": """
for p in P:
    if (m := re.search('1', llm_query(p))) or (m := None) is None:
        m.group()
    r.append(llm_query(p + '!'))""",
    "a name that a call in the condition changes": """
def ch():
    global m
    m = None
    return True
for p in P:
    if (m := re.search('1', llm_query(p))) and ch():
        m.group()
    r.append(llm_query(p + '!'))""",
    "a match that a call in the condition replaces": """
def ch():
    global m
    m = re.search('x', llm_query('new'))
    return True
for p in P:
    m = re.search('1', llm_query(p))
    if m and ch():
        m.group()
    r.append(llm_query(p + '!'))""",
    "no match": """
for p in P:
    m = re.search('1', llm_query(p))
    if not m:
        m.group()
    r.append(llm_query(p + '!'))""",
    "a match that may be none": """
for p in P:
    m = re.search('1', llm_query(p))
    if m is None:
        r.append(0)
    m.group()
    r.append(llm_query(p + '!'))""",
    "a match or something else": """
for p in P:
    m = re.search('1', llm_query(p))
    if m or p:
        m.group()
    r.append(llm_query(p + '!'))""",
    "a number that may have too many digits": """
for p in P:
    m = re.search(r'(\\d+)', llm_query(p))
    if m:
        n += int(m.group(1))
    r.append(llm_query(p + '!'))""",
    "the first line, if there is one": """
for p in P:
    a = llm_query(p).splitlines()
    r.append(a[0] if a else '')
    if not a:
        continue
    print(a[-1])
    r.append(llm_query(p + '!'))""",
    "the second line, if there is one": """
for p in P:
    a = llm_query(p).splitlines()
    if a:
        print(a[1])
    r.append(llm_query(p + '!'))""",
    "matches that are drawn twice": """
for p in P:
    ms = re.finditer(r'\\d', llm_query(p))
    a = [m.group() for m in ms]
    b = [m.group() for m in ms]
    r.append(llm_query(f'{p} {len(b)}'))""",
    "the length of an iterator": """
for p in P:
    try:
        len(re.finditer(r'\\d', llm_query(p)))
    except TypeError:
        pass
    r.append(llm_query(p + '!'))""",
    "matches of those that match": """
a = [llm_query(p) for p in P]
r = [m.group(1) for x in a if (m := re.search(r'(\\d)', x))]
r.append(llm_query('end'))
r.append(llm_query('end2'))""",
}

_ONCE = ["a group", "a group that has a name", "a whole match, or nothing"]


@pytest.mark.parametrize("code", _PROGRAMS.values(), ids=_PROGRAMS)
def test_what_is_read_of_a_match_is_as_the_code_reads_it(code):
    alike(code)


@pytest.mark.parametrize("name", _ONCE)
def test_what_is_read_of_a_match_holds_no_call_up(name):
    assert alike(_PROGRAMS[name]) == 1
