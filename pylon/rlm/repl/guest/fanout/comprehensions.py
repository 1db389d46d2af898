"""Comprehensions in a rehearsal, and generator expressions that a function draws to their end at once."""

import ast
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .machine import Frame, Variables
from .methods import Method
from .operations import Operations
from .source import Comprehension, bound_names
from .unknown import ITEMS, LIST_OF, Ended, Opaque, Unknown, common_kind, item_of


@dataclass(slots=True, eq=False, repr=False)
class GeneratorArgument(Opaque):
    """A generator expression as an argument of a function that draws it to its end at once."""

    node: ast.GeneratorExp


class Comprehensions(Operations):
    """Comprehensions, and calls with a generator expression."""

    @abstractmethod
    def bind(self, target: ast.expr, value: Any) -> None:
        """Assigns a value to a target of an assignment."""

    def evaluate_all(self, nodes: list[ast.expr]) -> list[Any]:
        """The values of expressions, of which some may be starred."""
        found: list[Any] = []
        for node in nodes:
            if not isinstance(node, ast.Starred):
                found.append(self.evaluate(node))
            elif isinstance(node.value, ast.GeneratorExp):
                found += self.drawn(node.value)
            else:
                found += self.rounds(self.evaluate(node.value))
        return found

    def drawn(self, node: ast.GeneratorExp) -> Any:
        """A list of all values of a generator expression."""
        return self.all_of(node, lambda: self.evaluate(node.elt))

    def all_of(self, node: Comprehension, element: Callable[[], Any]) -> Any:
        """A list of all values of a comprehension."""
        kind = self._of_unknown(node, element)
        if kind is not None:
            return Unknown(LIST_OF.get(kind, "list"))
        start, found, sure = self.doubt, list[Any](), True

        def take() -> None:
            nonlocal sure
            # In doubt, an answer may leave this item out.
            sure = sure and self.doubt == start
            found.append(element())

        self.each(node, take)
        return found if sure else Unknown(LIST_OF.get(common_kind(map(self.kind, found)), "list"))

    def set_of(self, node: Comprehension, element: Callable[[], Any]) -> set[Any]:
        """A set of all values of a comprehension."""
        start, made = self.doubt, set[Any]()

        def take() -> None:
            sure, value = self.doubt == start, element()
            if self.key_known(value) and sure:
                made.add(value)
            else:
                self.blur(made)

        self.each(node, take)
        return made

    def call_drawing(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """The result of a call whose argument is a generator expression."""
        if len(arguments) != 1 or (keywords and function is not sorted):
            # Most keywords are errors, before anything is drawn; the key of `max` is called between two draws.
            raise Ended
        node: ast.GeneratorExp = arguments[0].node
        if isinstance(function, Method):
            if function.name != "join":
                raise Ended
            return self.call(function, [self.drawn(node)], {})
        if function in (list, tuple, sorted):
            return self.call(function, [self.drawn(node)], keywords)
        if function in (any, all):
            return self._decided(node, function is any)
        if function in (set, frozenset):
            return self.call(function, [self.all_of(node, lambda: self._key(node.elt))], {})
        if function is dict:
            pairs: dict[Any, Any] = {}
            self.each(node, lambda: self._pair(pairs, self.evaluate(node.elt)))
            return pairs
        if function in (sum, max, min):
            # Python looks at each item before it draws the next.
            return self.call(function, [self.all_of(node, lambda: self._number(self.evaluate(node.elt)))], {})
        raise Ended

    def _decided(self, node: ast.GeneratorExp, wanted: bool) -> Any:
        """The result of `any`, or of `all` if `wanted` is false: the first item that is as wanted ends it."""
        start, found = self.doubt, list[bool]()
        ends: list[Variables] = []  # the variables wherever an answer may have ended it

        def take() -> bool:
            sure = self.doubt == start + len(ends)
            truth = self.truth(self.evaluate(node.elt))
            if truth is None or (truth is wanted and not sure):
                ends.append(self.snapshot())
                self.doubt += 1
                return False
            found.append(truth)
            return truth is wanted

        if self._of_unknown(node, lambda: self.truth(self.evaluate(node.elt))) is not None:
            return Unknown("bool")
        self.each(node, take)
        if not ends:
            return wanted in found if wanted else wanted not in found
        self.doubt -= len(ends)
        self.join([self.snapshot(), *ends])
        return wanted if wanted in found else Unknown("bool")

    def _pair(self, pairs: dict[Any, Any], pair: Any) -> None:
        if type(pair) is not tuple or len(pair) != 2:
            raise Ended
        self.put(pairs, pair[0], pair[1])

    def _key(self, node: ast.expr) -> Any:
        value = self.evaluate(node)
        self.key_known(value)
        return value

    def _number(self, value: Any) -> Any:
        if self.kind(value) not in ("int", "float", "bool"):
            raise Ended
        return value

    def _of_unknown(self, node: Comprehension, element: Callable[[], Any]) -> str | None:
        """The kind of the values of a comprehension over unknown items, None for any other."""
        first, *others = node.generators
        items = self.given.pop(first, None)
        if items is None and not first.is_async:
            items = self.evaluate(first.iter)
        if others or self.kind(items) not in ITEMS:
            self.given[first] = items
            return None
        if self.kind(items) == "data":
            self.may_fail()
        self.frames.append(Frame(bound_names([first.target]), self.frames[-1]))

        kinds: list[str] = []

        def once() -> None:
            self.bind(first.target, item_of(items))
            self._where(first.ifs, lambda: kinds.append(self.kind(element())))

        self.repeated(once)
        self.frames.pop()
        return common_kind(kinds)

    def each(self, node: Comprehension, take: Callable[[], bool | None], depth: int = 0) -> bool | None:
        """Calls `take` in each round of a comprehension, until it returns True; whether it did."""
        generator = node.generators[depth]
        if generator.is_async:
            raise Ended
        items = self.given.pop(generator, None)
        if items is None:
            items = self.evaluate(generator.iter)
        if depth == 0:
            self.frames.append(Frame(bound_names([one.target for one in node.generators]), self.frames[-1]))
        stopped: bool | None = False
        for item in self.rounds(items):
            self.bind(generator.target, item)
            inner = take if depth + 1 == len(node.generators) else lambda: self.each(node, take, depth + 1)
            stopped = self._where(generator.ifs, inner)
            if stopped:
                break
        if depth == 0:
            self.frames.pop()
        return stopped

    def _where(self, tests: list[ast.expr], take: Callable[[], bool | None]) -> bool | None:
        """The result of `take` if all conditions of a comprehension hold. In doubt where an answer decides."""
        if not tests:
            return take()
        test, *rest = tests
        believe = self.believing(test)
        truth = self.truth(self.evaluate(test))
        if truth is not None:
            return self._where(rest, take) if truth else None
        start = self.snapshot()
        believe(True)
        result = self.doubtful(lambda: self._where(rest, take))
        self.join([self.snapshot(), start])
        return result
