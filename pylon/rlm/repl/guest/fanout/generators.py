"""Generator functions of the code's own in a rehearsal: each is interpreted up to its next `yield`, as in Python."""

import ast
import inspect
from abc import abstractmethod
from collections.abc import Generator, Iterator
from types import GeneratorType
from typing import Any

from .branches import Branches, Exit
from .machine import Frame
from .unknown import Ended

# What a generator gives that has come to its end.
_END = object()

type _Steps = Generator[Any, None, Exit]


class Generators(Branches):
    """Generators, which take the place of the code's as iterators that built-in functions may draw from."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shadows.generator = self._begun

    @abstractmethod
    def statement(self, node: ast.stmt) -> Exit:
        """Rehearses one statement."""

    def yielded(self, body: list[ast.stmt], frame: Frame) -> Iterator[Any]:
        """What a generator with this body yields. Its frame is the last of `frames` only while it goes on."""
        self.enclosing.add(frame)
        steps = self._steps(body)
        while (item := self._next(steps, frame)) is not _END:
            yield item

    def _next(self, steps: _Steps, frame: Frame) -> Any:
        self.frames.append(frame)
        item = self.deeper(lambda: next(steps, _END))
        if frame.returned:
            # It may have come to its end.
            raise Ended
        self.frames.pop()
        return item

    def _steps(self, body: list[ast.stmt]) -> _Steps:
        for node in body:
            way = (yield from self._compound(node)) if self.sources.yields(node) else self.statement(node)
            if way is not None:
                return way
        return None

    def _compound(self, node: ast.stmt) -> _Steps:
        """Rehearses a statement that yields."""
        self.step()
        match node:
            case ast.Expr(value=ast.Yield(value=value)):
                yield None if value is None else self.evaluate(value)
                return None
            case ast.Expr(value=ast.YieldFrom(value=value)):
                yield from self.rounds(self.evaluate(value))
                return None
            case ast.If(test=test, body=body, orelse=other):
                truth = self.truth(self.evaluate(test))
                if truth is None:
                    raise Ended
                return (yield from self._steps(body if truth else other))
            case ast.For(target=target, iter=items):
                for item in self.rounds(self.evaluate(items)):
                    self.bind(target, item)
                    way = yield from self._steps(node.body)
                    if way in ("break", "return"):
                        return None if way == "break" else way
                return (yield from self._steps(node.orelse))
            case ast.While(test=test):
                while truth := self.truth(self.evaluate(test)):
                    way = yield from self._steps(node.body)
                    if way in ("break", "return"):
                        return None if way == "break" else way
                if truth is None:
                    raise Ended
                return (yield from self._steps(node.orelse))
        raise Ended

    def _begun(self, original: "GeneratorType[Any, Any, Any]") -> Iterator[Any]:
        """A generator of the running code as one of the rehearsal's. Raises Ended if it has been drawn from."""
        frame = original.gi_frame
        if frame is None or inspect.getgeneratorstate(original) != inspect.GEN_CREATED:
            raise Ended
        node, code = self.sources.function(original.gi_code), original.gi_code
        if not isinstance(node, ast.FunctionDef) or frame.f_globals is not self.module.base:
            raise Ended
        if code.co_freevars or code.co_cellvars:
            raise Ended
        variables = {name: self.shadows.of(value) for name, value in frame.f_locals.items()}
        return self.yielded(node.body, self.function_frame(node, self.module, variables))
