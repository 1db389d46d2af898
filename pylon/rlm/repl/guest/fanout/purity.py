"""Which expressions can be worked out before their turn: they change nothing and depend on nothing that changes."""

import ast
from collections.abc import Iterator

QUERIES = ("llm_query", "rlm_query")
# Called with plain data these do nothing but give a value. What they raise, they raise in the loop's own turn too.
FUNCTIONS = frozenset(
    [
        "abs",
        "all",
        "any",
        "bool",
        "chr",
        "dict",
        "divmod",
        "enumerate",
        "float",
        "frozenset",
        "int",
        "len",
        "list",
        "max",
        "min",
        "ord",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "zip",
    ]
)
# Methods of str, list, dict, tuple and set that change nothing.
METHODS = frozenset(
    [
        "capitalize",
        "casefold",
        "center",
        "copy",
        "count",
        "endswith",
        "expandtabs",
        "find",
        "format",
        "get",
        "index",
        "isalnum",
        "isalpha",
        "isdigit",
        "islower",
        "isnumeric",
        "isspace",
        "istitle",
        "isupper",
        "items",
        "join",
        "keys",
        "ljust",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rjust",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
        "values",
        "zfill",
    ]
)

# Functions of modules that do the same: what the name of the module means is looked at when the loop begins.
MODULE_FUNCTIONS = frozenset(
    {"json.dumps", "json.loads", "textwrap.dedent", "textwrap.shorten", "math.ceil", "math.floor"}
)

_PLAIN_NODES = (
    ast.Constant,
    ast.JoinedStr,
    ast.FormattedValue,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Subscript,
    ast.Slice,
    ast.Tuple,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


def is_query(node: ast.AST) -> bool:
    """Whether it is a plain call of one of the sub-call functions, without `*` and `**`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in QUERIES
        and not any(isinstance(argument, ast.Starred) for argument in node.args)
        and all(keyword.arg for keyword in node.keywords)
    )


def has_query(node: ast.AST) -> bool:
    """Whether it names one of the sub-call functions at all."""
    return any(isinstance(one, ast.Name) and one.id in QUERIES for one in ast.walk(node))


def bound_names(target: ast.AST) -> set[str]:
    """The names that a target, or anything inside a statement, assigns."""
    nodes = list(ast.walk(target))
    caught = {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
    return caught | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


class Reads:
    """The names that foreseen expressions rest on: plain values to `read`, builtins that must be `known` ones."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.known: set[str] = set()


def pure(node: ast.expr, unknown: set[str], given: set[str], reads: Reads) -> bool:
    """Whether it can be foreseen. `given` are names that the plan binds, `unknown` those that change under way.

    What it rests on goes into `reads`, whatever the verdict.
    """
    if isinstance(node, ast.Name):
        if node.id in given:
            return True
        reads.read.add(node.id)
        return node.id not in unknown and node.id not in QUERIES
    if isinstance(node, ast.Call):
        return _pure_call(node, unknown, given, reads)
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return _pure_comprehension(node, unknown, given, reads)
    return isinstance(node, _PLAIN_NODES) and all(pure(child, unknown, given, reads) for child in _expressions(node))


def _pure_call(node: ast.Call, unknown: set[str], given: set[str], reads: Reads) -> bool:
    called = ast.unparse(node.func) if isinstance(node.func, ast.Attribute | ast.Name) else ""
    if node.keywords and not called.endswith(".format") and called not in MODULE_FUNCTIONS:
        return False
    parts: list[ast.expr] = [*node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(node.func, ast.Name):
        if node.func.id not in FUNCTIONS or node.func.id in unknown | given:
            return False
        reads.known.add(node.func.id)
    elif called in MODULE_FUNCTIONS and called.split(".")[0] not in unknown | given:
        reads.known.add(called)
    elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        parts.append(node.func.value)
    else:
        return False
    return all(pure(part, unknown, given, reads) for part in parts)


def _pure_comprehension(
    node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
    unknown: set[str],
    given: set[str],
    reads: Reads,
) -> bool:
    bound = set(given)
    for generator in node.generators:
        if generator.is_async or not pure(generator.iter, unknown, bound, reads):
            return False
        if not plain_target(generator.target):
            return False
        bound |= bound_names(generator.target)
        if not all(pure(condition, unknown, bound, reads) for condition in generator.ifs):
            return False
    parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    return all(pure(part, unknown, bound, reads) for part in parts)


def plain_target(target: ast.expr) -> bool:
    """Names, or tuples of names: what assigning to it cannot do anything else."""
    if isinstance(target, ast.Tuple | ast.List):
        return all(plain_target(element) for element in target.elts)
    return isinstance(target, ast.Name)


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    return (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
