"""What is worked out when a loop begins: a generator expression over its items that yields the sub-calls."""

import ast
import copy
from dataclasses import dataclass, field

from .purity import MODULE_FUNCTIONS, Reads, has_query, is_query

# No name that code can have.
ANSWER = "an answer"


class UnsafeError(Exception):
    """The loop is left as it is."""


@dataclass(slots=True)
class Plan:
    """`clauses` follow `for TARGET in items` in the plan's generator expression; `calls` are what it yields."""

    clauses: list[ast.comprehension] = field(default_factory=list)
    calls: list[ast.expr] = field(default_factory=list)
    marked: list[ast.Call] = field(default_factory=list)
    reads: Reads = field(default_factory=Reads)
    mutated: set[str] = field(default_factory=set)
    typed: set[tuple[str, str]] = field(default_factory=set)

    def bind(self, target: ast.expr, value: ast.expr) -> None:
        """A name, or several, for what comes after."""
        self._clause(target, value, [])

    def only_where(self, test: ast.expr) -> None:
        """The rest of the iteration is foreseen only where it holds."""
        self._clause(ast.Name("_", ast.Store()), ast.Constant(None), [test])

    def work_out(self, value: ast.expr) -> None:
        """Where it fails, the plan ends."""
        self._clause(ast.Name("_", ast.Store()), value, [])

    def work_out_key(self, value: ast.expr) -> None:
        """The same for what must be hashable too."""
        self.reads.known.add("set")
        self.work_out(ast.Call(ast.Name("set", ast.Load()), [_tuple(_tuple(value))], []))

    def ask(self, call: ast.Call) -> None:
        """One more sub-call, after those that it has."""
        keys: list[ast.expr | None] = [ast.Constant(keyword.arg) for keyword in call.keywords]
        named = ast.Dict(keys, [keyword.value for keyword in call.keywords])
        self.calls.append(_tuple(ast.Constant(len(self.marked)), _tuple(*call.args), named))
        self.marked.append(call)

    def asks(self, node: ast.expr) -> bool:
        """Whether it is one of the sub-calls."""
        return any(node is call for call in self.marked)

    def _clause(self, target: ast.expr, value: ast.expr, conditions: list[ast.expr]) -> None:
        self.clauses.append(ast.comprehension(target, _tuple(value), conditions, 0))


def _tuple(*parts: ast.expr) -> ast.Tuple:
    return ast.Tuple(list(parts), ast.Load())


def sub_calls(node: ast.expr) -> list[ast.Call]:
    """The sub-calls in an expression. Raises UnsafeError where one of them may not be made, or be made many times."""
    if is_query(node):
        assert isinstance(node, ast.Call)  # noqa: S101
        if any(has_query(part) for part in [*node.args, *node.keywords]):
            raise UnsafeError  # an answer flows into a prompt
        return [node]
    if not has_query(node):
        return []
    if isinstance(node, ast.Name | ast.IfExp | ast.BoolOp | ast.Lambda | _COMPREHENSIONS):
        raise UnsafeError
    return [call for child in _children(node) for call in sub_calls(child)]


def asks_first(node: ast.expr) -> bool:
    """Whether the one sub-call in an expression is made before anything else in it can fail."""
    while not is_query(node):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.expr() as receiver), args=arguments):
                # `json.loads(…)`: the module is looked at when the loop begins.
                node = arguments[0] if ast.unparse(node.func) in MODULE_FUNCTIONS and arguments else receiver
            case ast.Call(func=ast.Name(), args=[first, *_]):
                node = first
            case ast.Subscript(value=inner):
                node = inner
            case _:
                return False
    return True


class _Answered(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        return ast.Name(ANSWER, ast.Load()) if is_query(node) else self.generic_visit(node)


def answered(node: ast.expr) -> ast.expr:
    """The expression with `ANSWER` in the place of its sub-calls."""
    made: ast.expr = _Answered().visit(copy.deepcopy(node))
    return made


_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _children(node: ast.AST) -> list[ast.expr]:
    found: list[ast.expr] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            found.append(child)
        elif isinstance(child, ast.keyword):
            found.append(child.value)
    return found
