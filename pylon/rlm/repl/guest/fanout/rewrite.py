"""Rewrites a cell's syntax tree so that it calls the fan-out wherever several sub-calls may follow."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .followed import CALLED
from .rehearsal import Rehearsal
from .source import QUERIES, Comprehension, Sources

# Names of functions that draw a generator to its end at once; the rehearsal makes sure that they are what they seem.
_TAKERS = frozenset({"list", "tuple", "set", "frozenset", "sorted", "dict", "sum", "max", "min", "any", "all"})
# Names of functions whose iterators cannot be copied: a loop over one is rehearsed before it is made.
_ONCE = CALLED["itertools"] | {"finditer"}
# Statements whose parts are rewritten, and which need no call before them.
_INSIDE = (
    ast.For
    | ast.AsyncFor
    | ast.If
    | ast.Try
    | ast.TryStar
    | ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.ClassDef
    | ast.Match
)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A piece of a cell to be rehearsed: a loop or comprehension whose items are known, or statements."""

    nodes: Sequence[ast.AST]

    def rehearse(self, rehearsal: Rehearsal, items: Any) -> None:
        """Rehearses this piece. `items` are those that its loop runs over, None for statements.

        Raises Ended, or whatever error the piece itself raises.
        """
        match self.nodes:
            case [ast.For() as loop] if items is not None:
                rehearsal.loop(loop, rehearsal.shadows.of(items))
            case [ast.GeneratorExp() as drawn]:
                rehearsal.given[drawn.generators[0]] = rehearsal.shadows.of(items)
                rehearsal.drawn(drawn)
            case [ast.ListComp() | ast.SetComp() | ast.DictComp() as made]:
                rehearsal.given[made.generators[0]] = rehearsal.shadows.of(items)
                rehearsal.evaluate(made)
            case [ast.Call(args=[ast.GeneratorExp() as argument]) as call]:
                rehearsal.given[argument.generators[0]] = rehearsal.shadows.of(items)
                rehearsal.evaluate(call)
            case statements:
                rehearsal.statements([one for one in statements if isinstance(one, ast.stmt)])


def rewritten(
    tree: ast.Module, original: ast.Module, name: str, sources: Sources, anchors: list[Anchor]
) -> ast.Module:
    """The same program with calls of `name.loop(…)` and `name.ahead(…)`, which give their place in `anchors`.

    Changes `tree` and adds to `anchors`; these refer to `original`, which is a second tree of the same code. Raises
    RecursionError on code that is nested too deep.
    """
    if not sources.asks(original):
        return tree
    pairs = zip(ast.walk(tree), ast.walk(original), strict=True)
    _Rewriter({id(node): twin for node, twin in pairs}, name, sources, anchors).visit(tree)
    return ast.fix_missing_locations(tree)


class _Rewriter(ast.NodeTransformer):
    def __init__(self, twins: dict[int, ast.AST], name: str, sources: Sources, anchors: list[Anchor]) -> None:
        self._twins = twins
        self._name = name
        self._sources = sources
        self._anchors = anchors
        # How many comprehensions this is inside of: their variables cannot be seen by the fan-out.
        self._hidden = 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, self._block(block))
        return super().generic_visit(node)

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        asks = [self._sources.asks(self._twins[id(one)]) for one in body]
        last = max((place for place, count in enumerate(asks) if count), default=-1)
        following = sum(asks)
        for place, statement in enumerate(body):
            once = bool(asks[place]) and _draws_once(statement)
            if asks[place] and (once or not isinstance(statement, _INSIDE)):
                several = once or isinstance(statement, ast.While | ast.With) or following > 1
                if several or self._sources.helps(self._twins[id(statement)]):
                    twins = [self._twins[id(one)] for one in body[place : last + 1]]
                    call = ast.Expr(self._helper("ahead", [ast.Constant(self._anchor(twins))]))
                    made.append(ast.copy_location(call, statement))
            following -= asks[place]
            made.append(statement)
        return made

    def visit_For(self, node: ast.For) -> ast.AST:
        twin = self._twins[id(node)]
        self.generic_visit(node)
        if self._sources.asks(twin):
            node.iter = self._wrapped(node.iter, twin)
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        # Anchored by `visit_Call`, if a function draws all of it at once.
        return self._within(node)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in QUERIES:
            call.func = self._helper("later", [call.func])
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        twin = self._twins.get(id(node), node)
        self.generic_visit(node)
        if len(node.args) == 1 and isinstance(node.args[0], ast.GeneratorExp) and _takes_all(node.func):
            self._anchored(node.args[0], twin)
        for argument in node.args:
            # `gather(*(… for …))`: all of it is drawn before anything else happens.
            if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.GeneratorExp):
                self._anchored(argument.value, self._twins[id(argument.value)])
        return node

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.AST:
        self._within(node)
        self._anchored(node, self._twins[id(node)])
        return node

    def _within(self, node: Comprehension) -> ast.AST:
        first = node.generators[0]
        first.iter = self.visit(first.iter)
        # Not visited again.
        items, first.iter = first.iter, ast.Constant(None)
        self._hidden += 1
        self.generic_visit(node)
        self._hidden -= 1
        first.iter = items
        return node

    def _anchored(self, node: Comprehension, twin: ast.AST) -> None:
        if not self._hidden and self._sources.asks(twin):
            node.generators[0].iter = self._wrapped(node.generators[0].iter, twin)

    def _wrapped(self, items: ast.expr, twin: ast.AST) -> ast.expr:
        return ast.copy_location(self._helper("loop", [ast.Constant(self._anchor([twin])), items]), items)

    def _anchor(self, twins: Sequence[ast.AST]) -> int:
        self._anchors.append(Anchor(twins))
        return len(self._anchors) - 1

    def _helper(self, name: str, arguments: list[ast.expr]) -> ast.Call:
        return ast.Call(ast.Attribute(ast.Name(self._name, ast.Load()), name, ast.Load()), arguments, [])


def _draws_once(node: ast.stmt) -> bool:
    """Whether a loop, or a statement that nothing is rewritten in, draws from an iterator that cannot be copied."""
    if isinstance(node, _INSIDE) and not isinstance(node, ast.For):
        return False
    of = node.iter if isinstance(node, ast.For) else node
    called = [one.func for one in ast.walk(of) if isinstance(one, ast.Call)]
    return any((one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "")) in _ONCE for one in called)


def _takes_all(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr == "join" and isinstance(function.value, ast.Constant)
    return isinstance(function, ast.Name) and function.id in _TAKERS
