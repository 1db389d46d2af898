"""Programs made by hypothesis: loops over sub-calls in the many ways in which models write them, and worse."""

from hypothesis import strategies as st

TEXTS = st.sampled_from(["a", "b", "yes", "7", "", "no: x", "A\nB"])

ITEMS = st.one_of(
    st.lists(TEXTS, max_size=4).map(repr),
    st.lists(st.tuples(TEXTS, st.integers(0, 9)), max_size=4).map(lambda pairs: f"[t for t, _ in {pairs!r}]"),
    st.sampled_from(
        ["sorted(docs)", "docs[1:]", "docs", "table.keys()", "table", "list(table.values())", "reversed(docs)"]
    ),
    # Things that must not be drawn from, or looked at, before their time.
    st.sampled_from(
        [
            "noisy()",
            "chunks()",
            "chunks(1)",
            "lazily(docs)",
            "lazily(chunks(1))",
            "made",
            "list(chunks())",
            "halves(docs)",
            "iter(docs)",
            "(d for d in docs)",
            "out",
            "map(str, docs)",
            "[3, 'x']",
            "odd",
            "None",
        ]
    ),
)
PROMPTS = st.sampled_from(
    [
        "x",
        "f'q {x}'",
        "'q ' + x",
        "f'{x!r} of {len(docs)}'",
        "x.strip().upper()",
        "'|'.join(d for d in docs)",
        "table.get(x, 'none')",
        "docs[0]",
        "table[x]",
        "str(n) + x",
        "f'{s}{x}'",
        "f'{out}{x}'",
        "json.dumps([x, 1])",
        "helper(x)",
        "prompt",
        "last",
        "x if x else 'empty'",
        "f'{x:>3}'",
    ]
)
CALLS = st.builds(
    lambda prompt, form: form.format(prompt),
    PROMPTS,
    st.sampled_from(
        [
            "llm_query({})",
            "llm_query({})",
            "llm_query({}, model='m')",
            "llm_query(prompt={})",
            "rlm_query({})",
            "llm_query({}).strip()",
            "ask({})",
            "other({})",
        ]
    ),
)
AFTER = st.sampled_from(
    [
        "out.append(r)",
        "out.append((x, r))",
        "out.append(r.split(':')[0])",
        "found[x] = r",
        "found[r] = x",
        "n += 1",
        "n += len(r)",
        "s += r",
        "print(x, r)",
        "print(f'{x}: {r}')",
        "docs.append(r)",
        "alias.append(r)",
        "table['a'] = r",
        "last = r",
        "out.append(int(r))",
        "out.append(r[0])",
        "out.append(r[:2])",
        "prompt = r",
        "seen.add(r)",
        "out += [r]",
        "x = r",
        "print(n)",
        "out.append(n)",
        "odd.append(r)",
        "del out[:]",
        "llm_query = str",
        "break",
        "continue",
        "assert r != 'YES'",
        "r = r.lower()",
        "hits.extend(r.splitlines())",
        "hits += [h for h in r.splitlines() if h]",
        "n += any(d in r for d in docs)",
        "s, last = r.split(':')",
        "out.append(json.dumps([x]))",
    ]
)
# Answers that are looked at, and may be no use.
TESTS = [
    "'A' in r", "r == 'YES'", "x", "n > 1", "isinstance(r, SubCallError)", "not r", "not isinstance(r, SubCallError)",
    "isinstance(r, str)", "r.strip().lower() == 'yes'", "int(r)",
]  # fmt: skip
RISKY = [
    "v = int({})", "v = json.loads({})", "out.append(json.loads({}))", "out.append(int({}.strip()))", "v = {}.split(':')[1]",
    "v = {}", "v = max({}, str(int(s)))", "v = max(str(int(s)), {})", "v = max({0}, int(s), {0})", "v = table.get({})",
]  # fmt: skip
HANDLERS = ["v = None", "v = 0", "out.append(x)", "pass", "print(x)", "n += 1", "last = x", "break", "continue"]


def _indent(lines):
    return ["    " + line for text in lines for line in text.split("\n")]


def _risked(draw, asked):
    """A `try` in which an answer may be of no use."""
    body = [draw(st.sampled_from(RISKY)).format(asked)]
    more = st.sampled_from([*(one.format("r") for one in RISKY), "out.append(v)", "w = int(v)", "k = x"])
    body += draw(st.lists(more, max_size=2))
    error = draw(st.sampled_from(["", " Exception", " Exception as e", " ValueError"]))
    handler = [
        draw(
            st.sampled_from([*HANDLERS, *(["print(e)", "last = f'{e}'", "out.append(e)"] if " as " in error else [])])
        )
    ]
    handler += draw(st.sampled_from([[], ["v = x"]]))
    return [
        "try:",
        *_indent(body),
        f"except{error}:",
        *_indent(handler),
        *draw(st.sampled_from([[], ["out.append(v)"]])),
    ]


@st.composite
def tails(draw):
    """What follows a call: plain statements, conditions, tries, small loops."""
    lines = []
    for _ in range(draw(st.integers(0, 3))):
        statement = draw(AFTER)
        shape = draw(
            st.sampled_from(
                ["", "", "", "if", "if", "nested", "otherwise", "elif", "else", "try", "for", "value", "found"]
            )
        )
        if shape == "if":
            lines += [f"if {draw(st.sampled_from(TESTS))}:", "    " + statement]
            if draw(st.booleans()):
                lines.append("    continue")
        elif shape == "nested":
            lines += [
                f"if {draw(st.sampled_from(TESTS))}:",
                f"    if {draw(st.sampled_from(TESTS))}:",
                "        continue",
            ]
            lines.append("    " + statement)
        elif shape == "otherwise":
            lines += [f"if {draw(st.sampled_from(TESTS))}:", "    " + statement, "else:", "    continue"]
        elif shape == "elif":
            lines += [f"if {draw(st.sampled_from(TESTS))}:", "    " + statement, "    continue"]
            lines += [f"elif {draw(st.sampled_from(TESTS))}:", "    continue"]
        elif shape == "else":
            lines += ["if r.startswith('Q'):", "    " + statement, "else:", "    " + draw(AFTER)]
        elif shape == "found":
            lines += ["for d in docs[:2]:", "    if d.upper() in r:", "        " + statement, "        break"]
            lines += draw(st.sampled_from([[], ["else:", "    last = 'none'"], ["else:", "    continue"]]))
        elif shape == "try":
            kind = draw(st.sampled_from(["", " Exception", " ValueError"]))
            lines += ["try:", "    v = int(r)", f"except{kind}:", "    v = 0", "out.append(v)", statement]
        elif shape == "for":
            lines += [
                "for line in r.splitlines():",
                *draw(
                    st.sampled_from(
                        [
                            ["    if line.strip():"],
                            ["    if not line:", "        continue", "    if n:"],
                            ["    if line == x:", "        break", "    if line:"],
                        ]
                    )
                ),
                "        " + statement,
                *draw(st.sampled_from([[], ["    n = line"], ["    last = n"]])),
            ]
        elif shape == "value":
            lines += _risked(draw, "r")
            lines.append(statement)
        else:
            lines.append(statement)
    return lines


@st.composite
def loops(draw):
    items, call = draw(ITEMS), draw(CALLS)
    shape = draw(
        st.sampled_from(["for", "for", "for", "risk", "list", "dict", "set", "join", "star", "nested", "try"])
    )
    if shape in ("list", "dict", "set", "join", "star"):
        only = draw(st.sampled_from(["", " if x", " if x != 'a'", " if n", " if int(x)"]))
        made = {
            "list": f"out2 = [{call} for x in {items}{only}]",
            "dict": f"out2 = {{x: {call} for x in {items}{only}}}",
            "set": f"out2 = {{{call} for x in {items}{only}}}",
            "star": draw(
                st.sampled_from(["out2 = star(*({}))", "out2 = star('a', *({}), x)", "out2 = star(*({}), *(n,))"])
            ).format(f"{call} for x in {items}{only}"),
            "join": f"out2 = ','.join({call} for x in {items}{only})",
        }
        return [made[shape]]
    before = draw(
        st.lists(
            st.sampled_from(
                [
                    "prompt = f'p {x}'",
                    "prompt = x.strip()",
                    "if not x:\n    continue",
                    "if not x:\n    print('empty')\n    continue",
                    "if x == 'a':\n    n += 1\n    last = x\n    continue",
                    "k = int(x)",
                    "x = x.strip()",
                    "n = 0",
                ]
            ),
            max_size=2,
        )
    )
    body = [*before, f"r = {call}", *draw(tails())]
    if shape == "risk":
        body = [*before, *_risked(draw, call), *draw(tails())]
    if draw(st.booleans()):
        body += [f"r2 = {draw(CALLS)}", "out.append(r2)"]
    if shape == "nested":
        return [f"for x in {items}:", *_indent([f"for y in {draw(ITEMS)}:", *_indent(body)])]
    if shape == "try":
        handler = draw(st.sampled_from(["r = ''", "pass", "n += 1", "break"]))
        return [
            f"for x in {items}:",
            *_indent(["try:", *_indent(body), "except Exception:", "    " + handler, "s += 'x'"]),
        ]
    return [f"for x in {items}:", *_indent(body)]


START = """
import json
class Odd(list):
    def append(self, item):
        # Bounded, because a loop over a list that grows with it would not end.
        if len(docs) < 12:
            docs.append(item)
        if len(self) < 40:
            list.append(self, item)
def helper(x):
    out.append('helped')
    return 'h' + x
def ask(p):
    return llm_query(f'ask {p}')
def other(p):
    r = llm_query(p)
    out.append(r)
    return int(r)
def star(*values):
    return list(values)
def noisy():
    for d in docs:
        out.append('drawn')
        yield d
def chunks(size=2):
    for i in range(0, len(docs), size):
        yield '|'.join(docs[i:i + size])
def lazily(items):
    n = 0
    for d in items:
        n += 1
        if d == 'b':
            continue
        yield llm_query(f'{n} {d}')
        out.append(d)
def halves(items):
    if len(items) < 2:
        yield from items
        return
    yield from halves(items[:len(items) // 2])
    yield from halves(items[len(items) // 2:])
docs = ['a', 'b', 'yes']
made = chunks(1)
table = {'a': '1', 'b': 'two'}
out, found, hits, seen, n, s, last, prompt = [], {}, [], set(), 0, '', 'start', 'none'
alias = docs
odd = Odd(['o'])
"""


@st.composite
def programs(draw):
    lines = [line for loop in draw(st.lists(loops(), min_size=1, max_size=2)) for line in loop]
    if draw(st.booleans()):
        lines = [
            "def work(out, found, hits, seen, n, s, last, prompt):",
            "    r = ''",
            *_indent(lines),
            "    return locals()",
        ]
        lines.append("local = work(out, found, hits, seen, n, s, last, prompt)")
    return START + "\n".join(lines) + "\n"
