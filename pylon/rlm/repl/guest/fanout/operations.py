"""Operators and subscripts in a rehearsal, and the items that a loop draws."""

import ast
import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from .calling import Calling
from .closures import Closure
from .followed import OPERATORS
from .machine import Variables
from .methods import DATA, ITERABLE
from .natives import ATOMS, CONTAINERS, DICTS, ITERATORS, VIEWS, factory
from .shadow import LazyMap
from .unknown import ITEMS, LISTS, Ended, Match, Parts, Unknown, concatenated, operator_kind

# Types of which equal constants may be the same object, or not.
_MERGED = ATOMS | {tuple, frozenset}
_SINGLE = {type(None), bool, type(...)}
# Rounds of a loop of which the number of rounds is not known, before it is given up.
_ROUNDS = 6


class Operations(Calling):
    """Operators, subscripts, and the items of a loop."""

    def rounds(self, value: Any) -> Iterator[Any]:
        """The items of a loop, one after the other. Raises Ended if the loop's body makes them unknown."""
        if isinstance(value, LazyMap):
            yield from self.mapped(value)
            return
        watched = [self.items(value)]
        for one in watched:
            if type(one) in VIEWS | ITERATORS:
                watched += [inner for inner in gc.get_referents(one) if type(inner) in ITERABLE]
        try:
            for item in value:
                yield item
                if self.vague and any(id(one) in self.vague for one in watched):
                    raise Ended
        finally:
            self.mark_drawn([value])

    def truth(self, value: Any) -> bool | None:
        """Whether a value is true, None if an answer decides."""
        if not self.contents_known(value):
            return None
        if type(value) in DATA:
            self.require_contents([value] if type(value) in VIEWS else [])
            return bool(self.members.get(id(value), value))
        return True if isinstance(value, Closure) else None

    def doubtful[T](self, run: Callable[[], T]) -> T:
        """The result of `run`, which rehearses code that may not be running."""
        self.doubt += 1
        result = run()
        self.doubt -= 1
        return result

    def repeated[T](self, run: Callable[[], T]) -> T:
        """The result of `run`, which rehearses one round of a loop of which the number of rounds is not known.

        It is rehearsed until another round changes nothing.
        """
        for _ in range(_ROUNDS):
            before, vague, asked = self.snapshot(), len(self.vague), self.asked
            result = self.doubtful(run)
            if self.asked > asked:
                self.asked = self.room
            self.join([self.snapshot(), before])
            if len(self.vague) == vague and self._same(before, self.snapshot()):
                return result
        raise Ended

    def _same(self, one: Variables, other: Variables) -> bool:
        """Whether both snapshots hold the same objects, or unknown values of which the same is known."""

        def identity(value: Any) -> Any:
            return (type(value), value.kind) if isinstance(value, Unknown) else id(value)

        return all(
            {name: identity(value) for name, value in mine.items()}
            == {name: identity(value) for name, value in theirs.items()}
            for (_, mine), (_, theirs) in zip(one, other, strict=True)
        )

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        """The result of an operator with two operands."""
        if self.is_known(left) and self.is_known(right):
            return self.native(op, left, right)
        if (
            self.contents_known(left)
            and self.contents_known(right)
            and isinstance(op, ast.BitOr | ast.BitAnd | ast.Sub)
        ):
            # Two sets, one of them with an order that is not known.
            made: set[Any] = set()
            held = [self.members.get(id(one), one) for one in (left, right)]
            self.unordered(made).update(self.native(op, *held))
            return made
        kind = operator_kind(type(op).__name__, self.kind(left), self.kind(right))
        if kind == "str":
            return concatenated([left, right])
        return self.may_fail() if kind is None else Unknown(kind)

    def put(self, container: Any, key: Any, value: Any) -> None:
        """Rehearses `container[key] = value`."""
        known = self.is_known(container) and self.is_known(key) and not self.doubt
        if type(container) in DICTS:
            if self.key_known(key) and known:
                container[key] = value
            else:
                self.put_somewhere(container, value)
        elif type(container) is list and known:
            container[key] = value
        else:
            raise Ended

    def native(self, op: ast.AST, left: Any, right: Any) -> Any:
        """The result of an operator on values that are known."""
        if isinstance(op, ast.Is | ast.IsNot):
            # Values that are two objects here may be one object in the running code.
            if not any(type(one) not in _MERGED or type(one) in _SINGLE for one in (left, right)):
                raise Ended
        elif not {type(left), type(right)} <= DATA or type(op) not in OPERATORS:
            raise Ended
        if isinstance(op, ast.Mod) and isinstance(left, str | bytes):
            if not self.text_known([right]):
                raise Ended
            self.mark_drawn([right])
        self.require_contents([left, right])
        return OPERATORS[type(op)](left, right)

    def part(self, of: Any, part: Any) -> Any:
        """The value of `of[part]`."""
        if type(of) in (defaultdict, Counter):
            return self._value_of(of, part)
        edges = [part.start, part.stop, part.step] if type(part) is slice else [part]
        if type(of) in DATA and self.is_known(of) and all(self.is_known(edge) for edge in edges):
            return of[part]
        if type(part) is slice and part.step is None and all(self.kind(e) in ("int", "NoneType") for e in edges):
            kind = self.kind(of)
            if kind in LISTS | {"str", "tuple"}:
                return Unknown(kind)
        if isinstance(of, Parts) and type(part) is int and -of.count <= part < of.count:
            return Unknown("str")
        if self.kind(of) in ("lines", "numbers") and type(part) is int:
            self.may_fail(IndexError)
            return Unknown(ITEMS[of.kind])
        if isinstance(of, Match) and type(part) in (int, str) and (group := of.group(part)) is not None:
            return group
        self.may_fail()
        return Unknown("data" if self.kind(of) == "data" else "any")

    def _value_of(self, of: Any, key: Any) -> Any:
        """The value of `of[key]` in a defaultdict, which adds a missing key, or in a Counter, which does not."""
        made_by = factory(of)
        if self.key_known(key) and self.is_known(of) and (key in of or not self.doubt):
            return of[key]
        if made_by is type(None) or self.values_kind(of) not in ("", made_by.__name__):
            return self.may_fail()
        if type(of) is defaultdict:
            self.blur(of)
        if made_by not in CONTAINERS:
            return Unknown(made_by.__name__)
        # It may be any container in `of`; their contents are not known any more either.
        return self.blurred(made_by())
