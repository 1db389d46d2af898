"""Programs made by hypothesis in which helper functions ask: with state, defaults, closures, recursion, errors."""

from hypothesis import strategies as st

PROMPTS = st.sampled_from(
    [
        "c",
        "f'q {c}'",
        "f'{n} {c}'",
        "c + str(len(out))",
        "c[:k]",
        "f'{last}{c}'",
        "f'{cache}{c}'",
        "out[-1] + c",
        "wrap(c)",
        "'|'.join(docs[:k])",
        "docs[k]",
        "f'{seen}{c}'",
        "f'{sorted(seen)}{c}'",
        "c + ','.join({'person', 'place', 'date', 'event', 'law'})",
        "c + ','.join({*seen, *docs, 'x'})",
        "str(cache.get(c)) + c",
        "a + c",
        "f'{a}{c}'",
        "f'q {a}'",
        "'q ' + a + '!'",
        "c + f'{a!r}'",
        "'q {}!'.format(a)",
        "noted(c)",
        "f'{c!r:>4}'",
        "f'{odd}{c}'",
        "[c, n]",
        "c * k",
        "f'{emptied}{c}'",
        "f'{len(emptied)}{sorted(emptied)}{c}'",
        "','.join(emptied | {c})",
        "f'{tools}'.split(' at 0x')[0] + c",
        "'{} {}'.format(c, tools.get(c)).split(' at 0x')[0]",
        "f'{[iter(docs)]}'.split(' at 0x')[0] + c",
        "f'{dict(groups)}{c}'",
        "f'{counts}{c}{counts[c]}'",
        "f'{groups[c]}{c}'",
        "'{} of {c}'.format(a, c=c)",
        "re.sub('[a-c]', '-', c)",
        "json.dumps(docs) + c",
        "f'{len(keys)}{list(keys)}{c}'",
        "''.join(map(str, mapped)) + c",
        "f'{list(mapped)}{c}'",
    ]
)
ASKED = st.builds(
    lambda form, prompt: form.format(prompt),
    st.sampled_from(
        [
            "llm_query({})",
            "llm_query({})",
            "llm_query({})",
            "llm_query({}, model=m)",
            "rlm_query({})",
            "llm_query({}).strip().lower()",
            "llm_query_batched([{0}, 'b' + c])[0]",
            "inner({})",
            "self_ask({})",
            "(lambda p: llm_query(p))({})",
            "cache.setdefault(c, llm_query({}))",
        ]
    ),
    PROMPTS,
)
SIMPLE = st.sampled_from(
    [
        "out.append(a)",
        "out.append(c)",
        "n += 1",
        "n += len(a)",
        "last = a",
        "last = c",
        "cache[c] = a",
        "cache[a] = c",
        "seen.add(c)",
        "seen.add(a)",
        "print(c, a)",
        "a = a.strip()",
        "a = int(a)",
        "a = json.loads(a)",
        "a = a.split(':')[0]",
        "a = a.split(':')[1]",
        "c = c + 'x'",
        "docs.append(c)",
        "alias.append(a)",
        "odd.append(c)",
        "out += [c]",
        "s += a",
        "a = a or c",
        "a = c if 'A' in a else last",
        "out.sort()",
        "seen.discard(c)",
        "del cache[c]",
        "k += 1",
        "inner = str",
        "boxes.put(a)",
        "c = it.pop()",
        "a = [line for line in a.splitlines() if line]",
        "a = sum(len(x) for x in out)",
        "raise ValueError(c)",
        "assert a != 'NONE'",
        "a = a.finish",
        "c = docs.index(c)",
        "a = out and out[-1]",
        "emptied.add(c)",
        "emptied.add(c)",
        "emptied.discard(c)",
        "docs.pop() if len(docs) > 2 else None",
        "emptied |= {c, 'z'}",
        "emptied = emptied - {c}",
        "seen.remove('s')",
        "seen.update(docs)",
        "tools[c] = lambda x: x",
        "tools = {'up': lambda x: x + c}",
        "groups[c].append(a)",
        "groups[a].append(c)",
        "groups[a] = out",
        "table[a] = out",
        "table[a] += [c]",
        "counts[c] += 1",
        "counts[a] += 1",
        "counts['a'] = c",
        "cache[a] = cache.get(a, 0) + 1",
        "a = re.sub('x', 'y', a)",
        "a = re.findall('(a)|b', a)",
        "n += len(re.split('[[a]', c))",
        "mapped = map(other, docs)",
        "mapped = map(ask, cache) if len(out) < 9 else map(str, 'xy')",
        "a = a if 'A' in a else ','.join(str(x) for x in mapped)",
        "a += 'x'",
        "cache[c] += 'y'",
        "docs = docs + [c] if len(docs) < 9 else docs",
        "json.loads = loads",
        "re.sub = sub",
        "a = json.loads(c)",
        "a = max(docs, key=lambda d: len(llm_query(d + c)))",
        "a = [x.strip() for x in a.splitlines() if x]",
        "a = ','.join(x for x in a.split(',') if x if x != c)",
        "a = [seen.add(x) for x in a.split(':') if x != last if int(x)]",
        "a = [llm_query(x) for x in a.splitlines() if n < 2]",
        "a = sorted(x.lower() for x in a.split())",
        "n += sum(len(x) for x in a.split())",
        "a = any(x in a for x in ['A', 'z'])",
        "a = all(x not in a for x in it)",
        "a = any(it.append(x) or x in a for x in docs[:2] if x != c)",
        "a = any(llm_query(x + c) == a for x in 'xy')",
        "a = all(x.isdigit() for x in a.split())",
        "last, a = a.split(':', 1)",
        "a = a.split(':', 1)[1].strip() if ':' in a else a",
        "a = a.split(':')[-2] if ':' in a and c else c",
        "a = json.loads(a).get('a', [])",
        "a = json.loads(a)['a']",
        "out.extend(json.loads(a).get('b', out))",
        "out.extend(json.loads(a))",
        "cache[json.loads(a)] = c",
        "a = ','.join(x for x in json.loads(a))",
        "a = c.join(json.loads(a).get('a', it))",
        "a = re.search('[a-c]+', a).group()",
        "a = json.loads(a, object_hook=other)",
        "a = re.sub('[a-c]', lambda x: llm_query(x[0]), a)",
        "c, a = a.splitlines()",
        "a = a.split()[0]",
        "a = a.split(':')[-1]",
        "it = iter(docs)\na = any(x in a for x in it)",
    ]
)
TESTS = st.sampled_from(
    ["c", "'A' in a", "a == 'NONE'", "not a", "isinstance(a, SubCallError)", "isinstance(a, str)", "n > 2",
     "c in seen",
     "c in cache", "len(out) > 2", "k", "a is None", "a and c", "int(a)", "c == 'b'"]
)  # fmt: skip


def indent(lines):
    return ["    " + line for text in lines for line in text.split("\n")]


def _compound(bodies):
    return st.one_of(
        st.builds(lambda test, body: [f"if {test}:", *indent(body)], TESTS, bodies),
        st.builds(
            lambda test, body, other: [f"if {test}:", *indent(body), "else:", *indent(other)], TESTS, bodies, bodies
        ),
        st.builds(
            lambda body, error, handler: ["try:", *indent(body), f"except{error}:", *indent(handler)],
            bodies,
            st.sampled_from(
                ["", " Exception", " ValueError", " (ValueError, TypeError)", " Exception as e", " errors()"]
            ),
            bodies,
        ),
        st.builds(
            lambda body, first, one, two: [
                "try:",
                *indent(body),
                f"except {first}:",
                *indent(one),
                "except Exception as e:",
                *indent(two),
            ],
            bodies,
            st.sampled_from(["ValueError", "(KeyError, IndexError)", "json.JSONDecodeError", "Exception"]),
            bodies,
            bodies,
        ),
        st.builds(lambda body, end: ["try:", *indent(body), "finally:", *indent(end)], bodies, bodies),
        st.builds(
            lambda items, body: [f"for c in {items}:", *indent(body)],
            st.sampled_from(["docs[:2]", "a.splitlines()", "list(cache)", "seen", "enumerate(docs[:2])", "[c, a]"]),
            bodies,
        ),
        st.builds(
            lambda items, test, body, after, other: [
                f"for d in {items}:",
                f"    if {test}:",
                *indent(indent(body)),
                "        break",
                *indent(after),
                *other,
            ],
            st.sampled_from(["docs[:3]", "docs[:2]", "iter(docs)", "it", "a.splitlines()", "several(docs[:2])"]),
            st.one_of(TESTS, st.sampled_from(["d in a", "d == c", "len(d) > 1"])),
            bodies,
            bodies,
            st.one_of(st.just([]), bodies.map(lambda other: ["else:", *indent(other)])),
        ),
        st.builds(
            lambda test, body, after: [
                "j = 0",
                "while j < 3:",
                "    j += 1",
                *indent(body),
                f"    if {test}:",
                "        break",
                *indent(after),
            ],
            TESTS,
            bodies,
            bodies,
        ),
        st.builds(
            lambda test, body: [f"if {test}:", "    last, a = a.split(':', 1)", *indent(body)],
            st.sampled_from(
                [
                    "':' in a",
                    "a.startswith('A:')",
                    "c and ':' in a",
                    "':' in a and (a := c)",
                    "not ':' not in a",
                    "':' in a or c",
                ]
            ),
            bodies,
        ),
        st.builds(
            lambda items, body, after: [
                "try:",
                f"    for d in json.loads(a){items}:",
                *indent(indent(body)),
                *indent(after),
                "except Exception:",
                "    n += 1",
            ],
            st.sampled_from(["", ".get('a', [])", "['a']", ".items()", ".get('b', out)[:3]"]),
            bodies,
            bodies,
        ),
        st.builds(lambda body: ["j = 0", "while j < 2:", "    j += 1", *indent(body)], bodies),
    )


def _bodies(ends):
    leaf = st.one_of(
        SIMPLE.map(lambda one: [one]),
        SIMPLE.map(lambda one: [one]),
        ASKED.map(lambda ask: [f"a = {ask}"]),
        st.sampled_from(ends).map(lambda end: [end]),
    )
    blocks = st.lists(leaf, min_size=1, max_size=3).map(lambda parts: [line for part in parts for line in part])
    return st.one_of(
        blocks, st.builds(lambda one, two: [*one, *two], blocks, st.recursive(blocks, _compound, max_leaves=4))
    )


FUNCTIONS = _bodies(["return a", "return c", "return", "return (c, a)", "a = c", "pass"])
LOOPED = _bodies(["continue", "break", "pass"])
HEADS = st.sampled_from(
    [
        "def {name}(c, k=1, a='', m=None):",
        "def {name}(c, *, k=2, a='x', m='m'):",
        "def {name}(c, a=last, k=0, *rest, m=None, **more):",
    ]
)


@st.composite
def helpers(draw, name):
    body = draw(FUNCTIONS)
    ask = [f"a = {draw(ASKED)}"]
    head = draw(HEADS).format(name=name)
    declared = ["global n, last, s"] if draw(st.booleans()) else []
    shape = draw(
        st.sampled_from(
            ["plain", "plain", "plain", "closure", "recursive", "lambda", "method", "decorated", "partial"]
        )
    )
    end = [draw(st.sampled_from(["return a", "return a", "return (c, a)", "return c"]))]
    if shape == "lambda":
        return [f"{name} = lambda c, k=1, a='', m=None: {draw(ASKED)}"]
    if shape == "partial":
        return [f"{name} = functools.partial({draw(st.sampled_from(['llm_query', 'inner', 'other']))})"]
    if shape == "method":
        lines = ["class Tool:", "    k, a, m = 1, '', None", "    def go(self, c, k=1, a='', m=None):"]
        return [*lines, *indent(indent([*declared, *ask, *body, *end])), f"{name} = Tool().go"]
    if shape == "recursive":
        again = [
            "if len(c) > 1 and k < 3:\n    return {}(c[1:], k=k + 1)",
            "if len(c) > 1 and k < 3:\n    return max(str({}(x, k=k + 1)) for x in (c[1:], c[:1]))",
            "if k < 45:\n    return sorted([c], key=lambda x: str({}(x, k=k + 1)))[0]",
        ]
        ask = [*ask, draw(st.sampled_from(again)).format(name)]
    lines = [head, *indent([*declared, *ask, *body, *end])]
    if shape == "decorated":
        return ["@twice", *lines]
    if shape == "closure":
        inner = [f"    {line}" for line in lines]
        return ["def make(last):", "    count = 0", *inner, f"    return {name}", f"{name} = make('l')"]
    return lines


@st.composite
def generators(draw, name):
    """A generator function, for `uses` to draw from."""
    yielded = ["yield " + draw(st.sampled_from(["c", "c", "a", "ask(c)", "str(n)", "c + a", "llm_query(c)"]))]
    if draw(st.booleans()):
        yielded = [f"if {draw(TESTS)}:", *indent(yielded)]
    body = [*draw(LOOPED), *yielded, *draw(st.one_of(st.just([]), LOOPED))]
    shape = draw(st.sampled_from(["for", "for", "while", "from"]))
    if shape == "while":
        lines = ["i = 0", "while i < len(items):", "    c = items[i]", "    i += 1", *indent(body)]
    elif shape == "from":
        lines = ["yield from items", "for c in items[:2]:", *indent(body)]
    else:
        lines = ["for c in items:", *indent(body)]
    declared = ["global n, last"] if draw(st.booleans()) else []
    return [f"def {name}(items, k=1, a='', m=None, it=('i',)):", *indent([*declared, *lines])]


@st.composite
def uses(draw):
    items = draw(
        st.sampled_from(
            ["docs", "docs", "docs", "docs * 2", "table", "sorted(docs)", "table.items()", "range(3)",
             "enumerate(docs)", "zip(docs, docs)", "iter(docs)", "map(str, docs)", "(d for d in docs)",
             "several(docs)", "several(docs[:2])", "enumerate(several(docs))", "zip(several(docs), docs)", "made",
             "list(several(docs))", "map(inner, several(docs))", "several(several(docs))",
             "map(inner, docs)", "seen", "emptied", "{*docs, 'q'}", "drawn()", "odd", "reversed(docs)"]
        )
    )  # fmt: skip
    ask = draw(
        st.sampled_from(
            ["ask(c)", "ask(c)", "ask(c)", "other(c)", "ask(c, k=2)", "inner(c)", "ask(other(c))", "noted(ask(c))"]
        )
    )
    shape = draw(
        st.sampled_from(
            ["for", "for", "for", "list", "dict", "map", "pool", "submit", "futures", "while", "straight", "any",
             "sorted", "pairs", "kept", "keyed", "wrong", "join", "set", "lambda", "work"]
        )
    )  # fmt: skip
    made = {
        "list": f"r = [{ask} for c in {items}]",
        "dict": f"r = {{c: {ask} for c in {items}}}",
        "set": f"r = set({ask} for c in {items})",
        "map": f"r = list(map(ask, {items}))",
        "any": f"r = any({ask} for c in {items})",
        "sorted": f"r = sorted({items}, key=ask)",
        "pairs": f"r = dict((c, {ask}) for c in {items})",
        "kept": f"cache = dict(((str(c), {ask}) for c in {items}), k='v')\nr = llm_query(f'{{len(cache)}}')",
        "keyed": f"r = max((len(str({ask})) for c in {items}), key=lambda x: len(str(other(docs[0]))), default=0)",
        "wrong": f"r = list(({ask} for c in {items}), x=1)",
        "join": f"r = ','.join({ask} for c in {items})",
        "lambda": f"r = list(map(lambda c: {ask}, {items}))",
        "pool": f"with ThreadPoolExecutor() as ex:\n    r = list(ex.map(ask, {items}))",
        "futures": "with ThreadPoolExecutor(3) as ex:\n"
        f"    __f = {{ex.submit(ask, c): c for c in {items}}}\n    r = [(__f[x], x.result()) for x in __f]",
        "submit": "with ThreadPoolExecutor(3) as ex:\n"
        f"    f = [ex.submit(ask, c) for c in {items}]\n    r = [x.result() for x in f]",
    }
    if shape in made:
        return [made[shape]]
    body = [f"a = {ask}", *draw(LOOPED)]
    if shape == "for":
        return [f"for c in {items}:", *indent(body)]
    if shape == "while":
        return ["i = 0", "while i < 3:", "    c = docs[i]", "    i += 1", *indent(body)]
    if shape == "straight":
        return ["c, a = 'a', ask('1')", "b = ask('2')", "r = [a, b, llm_query(f'{a}{b}'), ask(c)]"]
    return [
        "def work(out, n, last, s, a, k, inner, c='w'):",
        *indent(
            [
                "m = None",
                f"for c in {items}:",
                *indent(body),
                f"r = [{ask} for c in {items}]",
                "return (out, n, last, s, r)",
            ]
        ),
        "r = work(out, n, last, s, '', 1, inner)",
    ]


START = """
import functools
import json
import re
from collections import Counter, defaultdict
read, real_sub = json.loads, re.sub
def loads(text):
    out.append('read')
    return read(text)
def sub(*given):
    out.append('sub')
    return real_sub(*given)
emptied = set()
for c in 'pqrs':
    emptied.add(c)
for c in 'pqrs':
    emptied.discard(c)
groups, counts, tools = defaultdict(list), Counter(), {}
class Odd(list):
    def __repr__(self):
        out.append('shown')
        return 'Odd'
class Boxes:
    def put(self, value):
        out.append(value)
def errors():
    return ValueError if out.append('error') or llm_query('errors') else TypeError
def wrap(c, left='<'):
    return left + c + '>'
def noted(c):
    if len(docs) < 6:
        docs.append('noted')
    return c
def twice(f):
    def both(*args, **kwargs):
        f(*args, **kwargs)
        return f(*args, **kwargs)
    return both
def drawn():
    for d in docs:
        out.append('drawn')
        yield d
def inner(c):
    return llm_query('inner ' + c)
def self_ask(c):
    try:
        return json.loads(llm_query(c))
    except Exception:
        return 'none'
def other(c):
    return c
docs = ['a', 'bc', 'yes', 'two']
table = {'a': '1', 'b': 'two'}
out, cache, seen, n, s, last, a, c, k, m, it = ['o'], {}, {'s', 't'}, 0, '', 'start', '', 'c', 1, None, ['i', 'j']
keys, mapped = cache.keys(), map(str, docs)
alias, odd, boxes, r = docs, Odd(['o']), Boxes(), None
"""


@st.composite
def helper_programs(draw):
    lines = [*draw(helpers("ask")), *draw(generators("several")), "made = several(docs)"]
    lines += [*draw(st.sampled_from([[], ["next(made, None)"]])), *draw(uses())]
    if draw(st.booleans()):
        lines = [*draw(helpers("other")), *lines]
    if draw(st.booleans()):
        # Defined anew.
        lines += [*draw(helpers(draw(st.sampled_from(["ask", "other"])))), *draw(uses())]
    return START + "\n".join(lines) + "\n"
