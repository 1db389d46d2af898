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
        ["noisy()", "iter(docs)", "(d for d in docs)", "out", "map(str, docs)", "[3, 'x']", "odd", "None"]
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
    ]
)


def _indent(lines):
    return ["    " + line for text in lines for line in text.split("\n")]


@st.composite
def tails(draw):
    """What follows a call: plain statements, conditions, tries, small loops."""
    lines = []
    for _ in range(draw(st.integers(0, 3))):
        statement = draw(AFTER)
        shape = draw(st.sampled_from(["", "", "", "if", "else", "try", "for", "value"]))
        if shape == "if":
            test = draw(
                st.sampled_from(["'A' in r", "r == 'YES'", "x", "n > 1", "isinstance(r, SubCallError)", "not r"])
            )
            lines += [f"if {test}:", "    " + statement]
        elif shape == "else":
            lines += ["if r.startswith('Q'):", "    " + statement, "else:", "    " + draw(AFTER)]
        elif shape == "try":
            kind = draw(st.sampled_from(["", " Exception", " ValueError"]))
            lines += ["try:", "    v = int(r)", f"except{kind}:", "    v = 0", "out.append(v)", statement]
        elif shape == "for":
            lines += [
                "for line in r.splitlines():",
                "    if line.strip():",
                "        " + statement.replace("r", "line", 0),
            ]
        elif shape == "value":
            lines += ["try:", "    v = json.loads(r)", "except Exception:", "    v = None", statement]
        else:
            lines.append(statement)
    return lines


@st.composite
def loops(draw):
    items, call = draw(ITEMS), draw(CALLS)
    shape = draw(st.sampled_from(["for", "for", "for", "list", "dict", "set", "join", "nested", "try"]))
    if shape in ("list", "dict", "set", "join"):
        only = draw(st.sampled_from(["", " if x", " if x != 'a'", " if n", " if int(x)"]))
        made = {
            "list": f"out2 = [{call} for x in {items}{only}]",
            "dict": f"out2 = {{x: {call} for x in {items}{only}}}",
            "set": f"out2 = {{{call} for x in {items}{only}}}",
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
                    "k = int(x)",
                    "x = x.strip()",
                    "n = 0",
                ]
            ),
            max_size=2,
        )
    )
    body = [*before, f"r = {call}", *draw(tails())]
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
def noisy():
    for d in docs:
        out.append('drawn')
        yield d
docs = ['a', 'b', 'yes']
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
