"""The syntax of the functions that cells define, and the names whose use may lead to a sub-call."""

import ast
from collections.abc import Sequence
from types import CodeType

QUERIES = frozenset({"llm_query", "rlm_query", "llm_query_batched", "llm_batch", "rlm_query_batched"})

type Function = ast.FunctionDef | ast.Lambda
type Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Sources:
    """The functions and names of all cells so far. Their syntax trees must not be changed: rehearsals read them."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, int, str], Function | None] = {}
        self._mentions: dict[str, set[str]] = {}
        self._asking = set(QUERIES)
        self._scopes: dict[Function, tuple[set[str], frozenset[str]]] = {}
        self._yielding: dict[ast.AST, bool] = {}

    def learn(self, tree: ast.Module, filename: str) -> None:
        """Adds the functions of a cell, and the names by which they can be called."""
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name=name):
                    line = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                    self._add(filename, line, name, node)
                    self._mentions.setdefault(name, set()).update(_names(node.body))
                case ast.Lambda():
                    self._add(filename, node.lineno, "<lambda>", node)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() | ast.Name() | ast.Call() as value):
                    if not isinstance(value, ast.Call) or _is_partial(value.func):
                        self._mentions.setdefault(name, set()).update(_names([value]))
        found = True
        while found:
            found = False
            for name, mentioned in self._mentions.items():
                if name not in self._asking and mentioned & self._asking:
                    self._asking.add(name)
                    found = True

    def function(self, code: CodeType) -> Function | None:
        """The syntax of a function, None if no cell defines it, or if several on the same line could be meant."""
        return self._functions.get((code.co_filename, code.co_firstlineno, code.co_name))

    def scope(self, node: Function) -> tuple[set[str], frozenset[str]]:
        """The names that a function assigns as its own, and those that it declares `global`."""
        if node not in self._scopes:
            own, outer = _scope([node.body] if isinstance(node, ast.Lambda) else node.body)
            self._scopes[node] = own, frozenset(outer)
        return self._scopes[node]

    def yields(self, node: ast.AST) -> bool:
        """Whether a statement or a function has a `yield` of its own."""
        if node not in self._yielding:
            waiting = list(ast.iter_child_nodes(node))
            for one in waiting:
                if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                    waiting += ast.iter_child_nodes(one)
            self._yielding[node] = any(isinstance(one, ast.Yield | ast.YieldFrom) for one in waiting)
        return self._yielding[node]

    def asks(self, node: ast.AST) -> int:
        """How many names in a piece of code may lead to a sub-call."""
        return sum(name in self._asking for name in _mentioned(node))

    def helps(self, node: ast.AST) -> bool:
        """Whether a name that may lead to a sub-call is a function of the code's own, or an argument of a call."""
        called = {id(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)}
        return any(name in self._asking - QUERIES for name in _mentioned(node)) or any(
            isinstance(one, ast.Lambda) or (isinstance(one, ast.Name) and one.id in QUERIES and id(one) not in called)
            for one in ast.walk(node)
        )

    def _add(self, filename: str, line: int, name: str, node: Function) -> None:
        key = (filename, line, name)
        self._functions[key] = None if key in self._functions else node


def _is_partial(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.endswith("partial")
    return False


def _names(nodes: Sequence[ast.AST]) -> set[str]:
    return {name for node in nodes for name in _mentioned(node)}


def _mentioned(node: ast.AST) -> list[str]:
    return [
        one.id if isinstance(one, ast.Name) else one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Name | ast.Attribute)
    ]


def bound_names(nodes: Sequence[ast.AST]) -> set[str]:
    """The names that these pieces of code assign in their own scope."""
    return _scope(nodes)[0]


def _scope(nodes: Sequence[ast.AST]) -> tuple[set[str], set[str]]:
    """The names that they assign in their own scope, and those that they declare `global`."""
    found: set[str] = set()
    outer: set[str] = set()
    waiting: list[ast.AST] = list(nodes)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
                continue
            case ast.Global(names=names):
                outer.update(names)
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                found |= {
                    one.target.id
                    for one in ast.walk(node)
                    if isinstance(one, ast.NamedExpr) and isinstance(one.target, ast.Name)
                }
                continue
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name.split(".")[0])
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                found.add(name)
        waiting += ast.iter_child_nodes(node)
    return found, outer
