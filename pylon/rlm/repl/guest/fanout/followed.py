"""What a rehearsal follows, as tables. All else ends it. `scripts/make_docs.py` shows them in docs/sandbox.md.

These are names only. What follows each of them is in the files that `__init__.py` lists: `natives.py` finds the
objects that the names stand for.
"""

import ast
import operator
from collections.abc import Callable
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Syntax, with how code writes it. Of some kinds only certain forms are followed: a `with` over a thread pool, an
# import of the modules below.
STATEMENTS: dict[type[ast.stmt], str] = {
    ast.Expr: "an expression",
    ast.Assign: "a = b",
    ast.AnnAssign: "a: t = b",
    ast.AugAssign: "a += b",
    ast.If: "if",
    ast.For: "for",
    ast.While: "while",
    ast.Continue: "continue",
    ast.Break: "break",
    ast.Try: "try",
    ast.With: "with",
    ast.FunctionDef: "def",
    ast.Return: "return",
    ast.Global: "global",
    ast.Assert: "assert",
    ast.Import: "import a",
    ast.ImportFrom: "from a import b",
    ast.Pass: "pass",
}
EXPRESSIONS: dict[type[ast.expr], str] = {
    ast.Constant: "1",
    ast.Name: "a",
    ast.Attribute: "a.b",
    ast.Subscript: "a[b]",
    ast.Slice: "a[b:c]",
    ast.Call: "a(b)",
    ast.JoinedStr: 'f"{a}"',
    ast.BinOp: "a + b",
    ast.UnaryOp: "not a",
    ast.BoolOp: "a and b",
    ast.Compare: "a < b",
    ast.IfExp: "a if b else c",
    ast.NamedExpr: "a := b",
    ast.Lambda: "lambda",
    ast.Tuple: "a, b",
    ast.List: "[a]",
    ast.Set: "{a}",
    ast.Dict: "{a: b}",
    ast.ListComp: "[a for b in c]",
    ast.SetComp: "{a for b in c}",
    ast.DictComp: "{a: b for c in d}",
}
# Followed where they stand in certain other syntax only: as an argument that is drawn from at once, as a statement.
WITHIN: dict[type[ast.expr], str] = {
    ast.GeneratorExp: "(a for b in c)",
    ast.Starred: "*a",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
}
# Operators, other than `and`, `or` and `not`, with what they do to two values; one of one value is given the second.
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.USub: lambda _, value: -value,
    ast.UAdd: lambda _, value: +value,
    ast.Invert: lambda _, value: ~value,
}

# By module, functions and classes that with plain data only return a value: they are called as they are.
CALLED: dict[str, frozenset[str]] = {
    "builtins": _words(
        "abs all any bool bytes chr dict divmod enumerate float frozenset int iter len list max min ord pow range"
        " repr reversed round set sorted str sum tuple zip"
    ),
    "collections": _words("Counter"),
    "itertools": _words("batched chain combinations islice pairwise permutations product zip_longest"),
    "json": _words("dumps loads"),
    "math": _words("ceil floor log sqrt"),
    "re": _words("compile escape findall finditer fullmatch match search split sub"),
    "textwrap": _words("dedent indent shorten wrap"),
}
# Those that call a function of the code's own, have an effect, or give what is not known: they are interpreted.
INTERPRETED: dict[str, frozenset[str]] = {
    "builtins": _words("filter isinstance map print"),
    "collections": _words("defaultdict"),
    "concurrent.futures": _words("ThreadPoolExecutor"),
    "functools": _words("partial"),
    "time": _words("monotonic perf_counter time"),
}

# By type, methods that change nothing.
METHODS: dict[str, frozenset[str]] = {
    "str": _words(
        "capitalize casefold center count encode endswith expandtabs find format index isalnum isalpha isdecimal"
        " isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix"
        " removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase"
        " title translate upper zfill"
    ),
    "bytes": _words("count decode endswith find index join lower replace split splitlines startswith strip upper"),
    "list": _words("copy count index"),
    "tuple": _words("count index"),
    "range": _words("count index"),
    "dict": _words("copy get items keys values"),
    "Counter": _words("copy get items keys values elements most_common total"),
    "set": _words("copy difference intersection isdisjoint issubset issuperset union"),
    "re.Match": _words("end group groupdict groups span start"),
    "re.Pattern": _words("findall finditer fullmatch match search split sub"),
}
METHODS |= {"defaultdict": METHODS["dict"], "frozenset": METHODS["set"]}
# By type, methods that change what they are called on.
CHANGING: dict[str, frozenset[str]] = {
    "list": _words("append clear extend insert pop remove reverse sort"),
    "dict": _words("clear pop popitem setdefault update"),
    "set": _words("add discard remove update"),
}
CHANGING |= {"defaultdict": CHANGING["dict"], "Counter": CHANGING["dict"]}

# Methods of an answer, and of texts made of it, that cannot fail: the kind of the result, and with how many texts as
# arguments. Of a few others more than the kinds of the arguments decides.
OF_AN_ANSWER_BY_VALUE = _words("format join rsplit split")
OF_AN_ANSWER: dict[str, tuple[str, frozenset[int]]] = {
    **dict.fromkeys(_words("strip lstrip rstrip"), ("str", frozenset({0, 1}))),
    **dict.fromkeys(_words("lower upper title capitalize casefold swapcase"), ("str", frozenset({0}))),
    **dict.fromkeys(_words("removeprefix removesuffix"), ("str", frozenset({1}))),
    "replace": ("str", frozenset({2})),
    **dict.fromkeys(_words("startswith endswith"), ("bool", frozenset({1}))),
    **dict.fromkeys(_words("isalnum isalpha isdigit islower isnumeric isspace isupper"), ("bool", frozenset({0}))),
    **dict.fromkeys(_words("find rfind count"), ("int", frozenset({1}))),
    "splitlines": ("lines", frozenset({0})),
    **dict.fromkeys(_words("partition rpartition"), ("tuple", frozenset({1}))),
}
