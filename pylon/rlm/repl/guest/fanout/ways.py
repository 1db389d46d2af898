"""Ways that a rehearsal cannot decide between, as they hang on an answer: conditions, and errors that may come."""

import ast
from abc import abstractmethod
from typing import Any

from .expressions import Expressions
from .machine import MAYBE, Variables
from .unknown import Ended, Unknown

# How a statement ends what it is in; None where the next one follows.
type Way = str | None


class Ways(Expressions):
    """Goes both ways where an answer decides, and joins what they leave."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.result: Any = None  # of the `return` that was come to last
        # Of each loop that is gone through, rounds that may have ended at a `continue`.
        self.continued: list[list[Variables]] = []

    def clear(self) -> None:
        super().clear()
        self.result, self.continued = None, []

    @abstractmethod
    def statements(self, body: list[ast.stmt]) -> Way:
        """One after the other."""

    def branch(self, truth: bool | None, body: list[ast.stmt], other: list[ast.stmt]) -> Way:
        if truth is not None:
            return self.statements(body if truth else other)
        start = self.snapshot()
        one = self.doubtful(lambda: self.statements(body))
        first, result = self.snapshot(), self.result
        self.restore(start)
        two = self.doubtful(lambda: self.statements(other))
        if one == two:
            self.join([self.snapshot(), first])
            if one == "return":
                self.result = self.either(result, self.result)
            if one == "break" or self.result is MAYBE:
                raise Ended
            return one
        if two is None:
            # The rest is rehearsed as what follows where this way out is not taken.
            self._leaves(one, result, first)
            return None
        if one is None:
            second = self.snapshot()
            self.restore(first)
            self._leaves(two, self.result, second)
            return None
        raise Ended

    def _leaves(self, way: Way, result: Any, variables: Variables) -> None:
        if way == "continue" and self.continued:
            self.continued[-1].append(variables)
        elif way == "return" and self.frames[-1].is_function:
            self.frames[-1].returned.append((result, variables))
        else:
            raise Ended
        self.doubt += 1

    def attempt(self, node: ast.Try) -> Way:
        catching = self._catching(node)
        start, exits = self.doubt, self._exits()
        if catching is not None:
            self.failing.append(catching)
            way = self.statements(node.body)
            _, failed = self.failing.pop()
            self.doubt -= len(failed)
            if way is None:
                way = self.statements(node.orelse)
            if failed:
                way = self._caught(node.handlers[0], failed, way)
        else:
            outer, self.failing = self.failing, []
            way = self.statements(node.body) or self.statements(node.orelse)
            self.failing = outer
        settled = self.doubt == start and self._exits() == exits
        if node.finalbody and (not settled or self.statements(node.finalbody) is not None):
            raise Ended
        return way

    def _caught(self, handler: ast.ExceptHandler, failed: list[Variables], way: Way) -> Way:
        """What the handler does where something has failed, or does not."""
        result, after = self.result, self.snapshot()
        self.join(failed)
        if handler.name:
            self.assign(handler.name, Unknown("any"))
        other = self.doubtful(lambda: self.statements(handler.body))
        if handler.name:
            self.assign(handler.name, MAYBE)
        caught, caught_result = self.snapshot(), self.result
        self.restore(after)
        self.result = result
        if way == other:
            self.join([after, caught])
            if way == "return":
                self.result = self.either(result, caught_result)
            if way == "break" or self.result is MAYBE:
                raise Ended
            return way
        if other is None:
            self.restore(caught)
            self._leaves(way, result, after)
        elif way is None:
            self._leaves(other, caught_result, caught)
        else:
            raise Ended
        return None

    def _catching(self, node: ast.Try) -> tuple[tuple[type, ...], list[Variables]] | None:
        """What its one handler catches."""
        if len(node.handlers) != 1:
            return None
        named = node.handlers[0].type
        caught = BaseException if named is None else self.evaluate(named)
        classes = caught if type(caught) is tuple else (caught,)
        return (classes, []) if all(type(one) is type for one in classes) else None

    def _exits(self) -> int:
        return sum(map(len, self.continued)) + sum(len(frame.returned) for frame in self.frames)
