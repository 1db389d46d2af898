"""What is worked out when a loop begins: a generator expression over its items that yields the sub-calls."""

import ast
from dataclasses import dataclass, field

from .purity import Reads, has_query, is_query


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


_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _children(node: ast.AST) -> list[ast.expr]:
    found: list[ast.expr] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            found.append(child)
        elif isinstance(child, ast.keyword):
            found.append(child.value)
    return found
