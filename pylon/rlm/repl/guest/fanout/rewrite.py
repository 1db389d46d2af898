"""Rewrites a cell's syntax tree so that loops over independent sub-calls send them together."""

import ast
import copy
import itertools
from collections.abc import Sequence

from .analysis import Body
from .plan import Plan, UnsafeError
from .purity import bound_names, has_query, is_query
from .runtime import Fan

_keys = itertools.count(1)
# Whoever takes a generator whole and at once.
_TAKERS = frozenset({"list", "tuple", "set", "sorted", "dict"})
_LEAVING = (
    ast.Break,
    ast.Return,
    ast.Raise,
    ast.Assert,
    ast.While,
    ast.With,
    ast.AsyncFor,
    ast.AsyncWith,
    ast.Await,
    ast.Yield,
    ast.YieldFrom,
    ast.Delete,
    ast.Global,
    ast.Nonlocal,
    ast.Import,
    ast.ImportFrom,
    ast.NamedExpr,
    ast.Lambda,
)


def rewrite(tree: ast.Module) -> ast.Module:
    """The same program; where loops may ask together they do. Raises RecursionError on absurdly deep code."""
    _Rewriter().visit(tree)
    return ast.fix_missing_locations(tree)


class _Rewriter(ast.NodeTransformer):
    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        parts = [*node.body]
        if any(has_query(part) for part in parts) and not _leaves(parts):
            plan = _plan(node, risking=False) or _plan(node, risking=True)
            if plan is None:
                return node
            key = next(_keys)
            node.iter = _wrapped(key, plan, node.target, node.iter)
            _mark(key, plan)
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._comprehension(node)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        call = node.value
        if isinstance(call, ast.Call) and is_query(call):
            call.func = _helper("later", [call.func])
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if len(node.args) == 1 and isinstance(node.args[0], ast.GeneratorExp) and _takes_all(node.func):
            self._comprehend(node.args[0])
        for argument in node.args:
            # `gather(*(… for …))`: all of it is drawn before anything else happens.
            if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.GeneratorExp):
                self._comprehend(argument.value)
        return node

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp) -> ast.AST:
        self.generic_visit(node)
        self._comprehend(node)
        return node

    def _comprehend(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        generator = node.generators[0]
        if len(node.generators) > 1 or generator.is_async or not has_query(node) or _leaves([node]):
            return
        try:
            body = Body(generator.target, set(), set())
            for condition in generator.ifs:
                body.condition(condition)
            if isinstance(node, ast.DictComp):
                body.key(node.key)
                body.expression(node.value)
            elif isinstance(node, ast.SetComp):
                body.key(node.elt)
            else:
                body.expression(node.elt)
            plan = body.finish()
        except UnsafeError:
            return
        key = next(_keys)
        generator.iter = _wrapped(key, plan, generator.target, generator.iter)
        _mark(key, plan)


def _plan(node: ast.For, *, risking: bool) -> Plan | None:
    assigned = {name for part in node.body for name in bound_names(part)}
    try:
        body = Body(node.target, assigned, _changed(node.body), risking=risking)
        body.statements(node.body)
        return body.finish()
    except UnsafeError:
        return None


def _takes_all(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr == "join" and isinstance(function.value, ast.Constant)
    return isinstance(function, ast.Name) and function.id in _TAKERS


def _leaves(parts: Sequence[ast.AST]) -> bool:
    return any(isinstance(node, _LEAVING) for part in parts for node in ast.walk(part))


def _changed(parts: Sequence[ast.AST]) -> set[str]:
    """Names whose object is changed by a method or an assignment to a part of it."""
    found: set[str] = set()
    for part in parts:
        for node in ast.walk(part):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) | ast.AugAssign(target=ast.Name(id=name)):
                    found.add(name)
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                    found.add(name)
    return found


def _wrapped(key: int, plan: Plan, target: ast.expr, items: ast.expr) -> ast.expr:
    """`items` as `__pylon__.loop(…)` gives them: see runtime.Fan.loop."""
    argument = "__items__"
    generators = [
        ast.comprehension(target, ast.Name(argument, ast.Load()), [], 0),
        *plan.clauses,
    ]
    generator = ast.GeneratorExp(ast.Tuple(plan.calls, ast.Load()), generators)
    functions = [ast.Name(call.func.id, ast.Load()) for call in plan.marked if isinstance(call.func, ast.Name)]
    arguments: list[ast.expr] = [
        ast.Constant(key),
        items,
        _lambda(generator, argument),
        _lambda(ast.Tuple(list(functions), ast.Load())),
        _lambda(_pairs({(name, name) for name in plan.reads.known})),
        _lambda(ast.Tuple([ast.Name(name, ast.Load()) for name in sorted(plan.reads.read)], ast.Load())),
        _lambda(ast.Tuple([ast.Name(name, ast.Load()) for name in sorted(plan.mutated)], ast.Load())),
        _lambda(_pairs(plan.typed)),
    ]
    return ast.copy_location(_helper("loop", arguments), items)


def _pairs(names: set[tuple[str, str]]) -> ast.expr:
    pairs: list[ast.expr] = [
        ast.Tuple([ast.parse(name, mode="eval").body, ast.Constant(text)], ast.Load()) for name, text in sorted(names)
    ]
    return ast.Tuple(pairs, ast.Load())


def _lambda(body: ast.expr, *names: str) -> ast.Lambda:
    arguments = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
    return ast.Lambda(arguments, _copied(body))


def _copied(node: ast.expr) -> ast.expr:
    """The plan's own nodes: the body's are marked afterwards."""
    return copy.deepcopy(node)


def _mark(key: int, plan: Plan) -> None:
    for number, call in enumerate(plan.marked):
        call.func = _helper("take", [ast.Constant(key), ast.Constant(number), call.func])


def _helper(name: str, arguments: list[ast.expr]) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(Fan.NAME, ast.Load()), name, ast.Load()), arguments, [])
