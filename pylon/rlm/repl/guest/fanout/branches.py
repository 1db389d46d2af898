"""Branches that an answer decides: conditions, and errors that may occur. Both ways are rehearsed and joined."""

import ast
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from .expressions import Expressions
from .machine import MAYBE, Variables
from .unknown import Ended, Unknown

# How a statement leaves what it stands in: `return`, `break` or `continue`; None if the next statement follows.
type Exit = str | None
# A way through code: how it ends, the value of the latest `return`, and the variables at its end.
type _Way = tuple[Exit, Any, Variables]
# Where two ways part, that one is left which comes first here: the others can go on for longer.
_LEFT: list[Exit] = ["return", "break", "continue", None]

# Syntax that only names something.
_NAMING = ast.Name | ast.Attribute | ast.Tuple | ast.expr_context


class Branches(Expressions):
    """Conditions and `try` statements."""

    @abstractmethod
    def statements(self, body: list[ast.stmt]) -> Exit:
        """Rehearses statements one after the other."""

    def branch(self, test: ast.expr, body: list[ast.stmt], other: list[ast.stmt]) -> Exit:
        """Rehearses an `if` statement: both ways if an answer decides."""
        believe = self.believing(test)
        truth = self.truth(self.evaluate(test))
        if truth is not None:
            return self.statements(body if truth else other)
        start = self.snapshot()
        believe(True)
        one = self._way(self.doubtful(lambda: self.statements(body)))
        self.restore(start)
        believe(False)
        return self._either_way(one, self._way(self.doubtful(lambda: self.statements(other))))

    def _way(self, way: Exit) -> _Way:
        """The way that has been rehearsed just now, which ends like this."""
        return way, self.frames[-1].result, self.snapshot()

    def _either_way(self, one: _Way, other: _Way) -> Exit:
        """Continues after two ways, of which the code takes one.

        Where they end alike they are joined. Where they part, one of them at least is an exit: it continues as if
        that exit is not taken.
        """
        left, followed = sorted((one, other), key=lambda way: _LEFT.index(way[0]))
        way, self.frames[-1].result, variables = followed
        if left[0] == way:
            self.join([variables, left[2]])
            if way == "return":
                self.return_either(left[1])
        else:
            self.restore(variables)
            self._leave_early(*left)
        return way

    def return_either(self, other: Any) -> None:
        """Makes the result of the function one that may also be this other one. Raises Ended if nothing is known."""
        frame = self.frames[-1]
        frame.result = self.either(frame.result, other)
        if frame.result is MAYBE:
            raise Ended

    def _leave_early(self, way: Exit, result: Any, variables: Variables) -> None:
        """Records an exit that may have been taken: from here on the code may not be running."""
        frame = self.frames[-1]
        if way == "continue" and frame.continued:
            frame.continued[-1].append(variables)
        elif way == "break" and frame.broken:
            frame.broken[-1].append(variables)
        elif way == "return" and frame.is_function:
            frame.returned.append((result, variables))
        else:
            raise Ended
        self.doubt += 1

    def looped(self, rounds: Callable[[], Exit], orelse: list[ast.stmt]) -> Exit:
        """How a loop ends, of which `rounds` rehearses all rounds. Joins the ways in which it may end."""
        frame = self.frames[-1]
        frame.broken.append([])
        way = rounds()
        left = frame.broken.pop()
        # A `break` in the `else` is one of the loop around this one.
        way = self.statements(orelse) if way is None else None if way == "break" else way
        if left:
            if way is not None:
                raise Ended
            self.doubt -= len(left)
            self.join([self.snapshot(), *left])
        return way

    def attempt(self, node: ast.Try) -> Exit:
        """Rehearses a `try` statement."""
        catching = self._catching(node)
        start, exits = self.doubt, self._exits()
        if catching is not None:
            self.failing.append(catching)
            way = self.statements(node.body)
            _, failed = self.failing.pop()
            self.doubt -= len(failed)
            if way is None:
                way = self.statements(node.orelse)
            for handler in node.handlers if failed else ():
                way = self._caught(handler, failed, way)
        else:
            outer, self.failing = self.failing, []
            way = self.statements(node.body) or self.statements(node.orelse)
            self.failing = outer
        settled = self.doubt == start and self._exits() == exits
        if node.finalbody and (not settled or self.statements(node.finalbody) is not None):
            raise Ended
        return way

    def _caught(self, handler: ast.ExceptHandler, failed: list[Variables], way: Exit) -> Exit:
        """Rehearses a handler, for the case that it catches what failed, and joins it with that it does not."""
        settled = self._way(way)
        self.join(failed)
        if handler.name:
            self.assign(handler.name, Unknown("any"))
        other = self.doubtful(lambda: self.statements(handler.body))
        if handler.name:
            self.assign(handler.name, MAYBE)
        return self._either_way(settled, self._way(other))

    def _catching(self, node: ast.Try) -> tuple[tuple[type, ...], list[Variables]] | None:
        """The classes that its handlers catch, with a list for the points where errors may occur. None if unknown."""
        caught: list[Any] = []
        for handler in node.handlers:
            named = handler.type
            if named is not None and not all(isinstance(one, _NAMING) for one in ast.walk(named)):
                # Python evaluates it only after an error, so it must be without effect.
                return None
            classes = BaseException if named is None else self.evaluate(named)
            caught += classes if type(classes) is tuple else (classes,)
        return (tuple(caught), []) if caught and all(type(one) is type for one in caught) else None

    def _exits(self) -> int:
        """How many early exits are waiting to be joined."""
        return sum(len(one.returned) + sum(map(len, [*one.continued, *one.broken])) for one in self.frames)
