"""A rehearsal: a piece of a cell's code is interpreted before it runs, to learn what it will ask in any case.

It interprets a part of Python over copies of the code's values, so that nothing of it has an effect. A sub-call gives
a value of which only the type is known. Where such a value decides, both branches are rehearsed as code that may not
be running; at anything that cannot be followed the rehearsal ends. The sub-calls it has found by then are those that
the code makes whatever it is answered, with these very prompts.
"""

import ast
import sys
from typing import Any

from .branches import Exit
from .followed import STATEMENTS
from .generators import Generators
from .methods import Pool
from .natives import MODULES
from .source import Function
from .unknown import ITEMS, Ended, item_of

# Kinds of which `x += y` makes a new value. Any other may be a container that is known by another name too.
_UNCHANGING = ("int", "float", "str", "bool", "tuple")


class Rehearsal(Generators):
    """The interpreter: run `statements`, `loop` or `evaluate`, and read `found`."""

    def statements(self, body: list[ast.stmt]) -> Exit:
        for statement in body:
            way = self.statement(statement)
            if way is not None:
                return way
        return None

    def loop(self, node: ast.For, items: Any) -> Exit:
        """Rehearses a `for` loop over these items."""

        def rounds() -> Exit:
            for item in self.rounds(items):
                self.bind(node.target, item)
                way = self._round(node.body)
                if way is not None:
                    return way
            return None

        return self.looped(rounds, node.orelse)

    def run_body(self, node: Function) -> Any:
        if isinstance(node, ast.Lambda):
            if self.sources.yields(node) or any(isinstance(one, ast.Await) for one in ast.walk(node)):
                raise Ended
            return self.evaluate(node.body)
        if any(isinstance(one, ast.Nonlocal) for one in ast.walk(node)):
            raise Ended
        frame = self.frames[-1]
        if self.sources.yields(node):
            return self.yielded(node.body, frame)
        if self.statements(node.body) != "return":
            frame.result = None
        if frame.returned:
            self.doubt -= len(frame.returned)
            self.join([self.snapshot(), *(variables for _, variables in frame.returned)])
            for value, _ in frame.returned:
                self.return_either(value)
        return frame.result

    def _round(self, body: list[ast.stmt]) -> Exit:
        """Rehearses one round of a loop; None if the next round follows."""
        frame = self.frames[-1]
        frame.continued.append([])
        way = self.statements(body)
        left = frame.continued.pop()
        if left:
            self.doubt -= len(left)
            if way not in (None, "continue"):
                raise Ended
            self.join([self.snapshot(), *left])
        return None if way == "continue" else way

    def statement(self, node: ast.stmt) -> Exit:
        self.step()
        if type(node) not in STATEMENTS:
            raise Ended
        match node:
            case ast.Expr(value=value):
                self.evaluate(value)
            case ast.Assign(targets=targets, value=value):
                result = self.evaluate(value)
                for target in targets:
                    self.bind(target, result)
            case ast.AnnAssign(target=ast.Name() as target, annotation=annotation, value=ast.expr() as value):
                if not self.frames[-1].is_function:
                    self._annotated(annotation)
                self.bind(target, self.evaluate(value))
            case ast.AugAssign(target=target, op=op, value=value):
                self._augment(target, op, value)
            case ast.If(test=test, body=body, orelse=other):
                return self.branch(test, body, other)
            case ast.For():
                return self._for(node)
            case ast.While():
                return self._while(node)
            case ast.Try():
                return self.attempt(node)
            case ast.With(items=[ast.withitem(pool, ast.Name() as target)], body=body):
                value = self.evaluate(pool)
                if not isinstance(value, Pool):
                    raise Ended
                self.bind(target, value)
                return self.statements(body)
            case ast.FunctionDef(name=name, args=declared, returns=returns, decorator_list=[]):
                every = (*declared.posonlyargs, *declared.args, *declared.kwonlyargs, declared.vararg, declared.kwarg)
                for written in (returns, *(one.annotation for one in every if one is not None)):
                    if written is not None:
                        self._annotated(written)
                self.assign(name, self.closure(node))
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.Return(value=value):
                self.frames[-1].result = None if value is None else self.evaluate(value)
                return "return"
            case ast.Assert(test=test):
                truth = self.truth(self.evaluate(test))
                if truth is None:
                    self.may_fail(AssertionError)
                elif not truth:
                    raise Ended
            case ast.Pass() | ast.Global():
                pass
            case ast.Continue():
                return "continue"
            case ast.Break():
                return "break"
            case _:
                raise Ended
        return None

    def _annotated(self, node: ast.expr) -> None:
        """Evaluates an annotation, since Python does."""
        match node:
            case ast.Constant() | ast.Name():
                self.evaluate(node)
            case ast.Subscript(value=ast.Name(id="list" | "dict" | "tuple" | "set"), slice=ast.Tuple(elts=parts)):
                for part in parts:
                    self._annotated(part)
            case ast.Subscript(value=ast.Name(id="list" | "dict" | "tuple" | "set"), slice=part):
                self._annotated(part)
            case _:
                raise Ended

    def _augment(self, target: ast.expr, op: ast.operator, value: ast.expr) -> None:
        match target:
            case ast.Name(id=name):
                before = self.look_up(name)
                after = self.evaluate(value)
                if self.kind(before) in _UNCHANGING:
                    self.assign(name, self.binary(op, before, after))
                elif type(before) is list and isinstance(op, ast.Add):
                    self.call(self.attribute(before, "extend"), [after], {})
                    self.assign(name, before)
                elif type(before) is set and type(after) is set and isinstance(op, ast.BitOr):
                    self.call(self.attribute(before, "update"), [after], {})
                    self.assign(name, before)
                else:
                    raise Ended
            case ast.Subscript(value=of, slice=part):
                container, key = self.evaluate(of), self.evaluate(part)
                before = self.part(container, key)
                if self.kind(before) not in _UNCHANGING:
                    raise Ended
                self.put(container, key, self.binary(op, before, self.evaluate(value)))
            case _:
                raise Ended

    def _for(self, node: ast.For) -> Exit:
        items = self.evaluate(node.iter)
        if self.kind(items) not in ITEMS:
            return self.loop(node, items)
        if self.kind(items) == "data":
            self.may_fail()
        if node.orelse:
            raise Ended

        def once() -> Exit:
            self.bind(node.target, item_of(items))
            return self._round(node.body)

        def rounds() -> Exit:
            if self.repeated(once) == "return":
                raise Ended
            return None

        return self.looped(rounds, [])

    def _while(self, node: ast.While) -> Exit:
        def rounds() -> Exit:
            while truth := self.truth(self.evaluate(node.test)):
                way = self._round(node.body)
                if way is not None:
                    return way
            if truth is None:
                raise Ended
            return None

        return self.looped(rounds, node.orelse)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.name if isinstance(node, ast.Import) else node.module or ""
            if name not in MODULES or name not in sys.modules or (isinstance(node, ast.ImportFrom) and node.level):
                raise Ended
            if isinstance(node, ast.Import):
                whole = sys.modules[name if alias.asname else name.partition(".")[0]]
                self.assign(alias.asname or name.partition(".")[0], whole)
            else:
                self.assign(alias.asname or alias.name, self.attribute(sys.modules[name], alias.name))
