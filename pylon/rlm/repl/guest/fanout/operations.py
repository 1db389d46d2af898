"""Operations on values in a rehearsal, and loops over them."""

import ast
import gc
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from .calling import Calling, Closure
from .methods import DATA, ITERABLE
from .natives import ATOMS, CONTAINERS, DICTS, ITERATORS, VIEWS, factory
from .shadow import Lazy
from .unknown import Ended, FirstPart, Unknown, added

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.USub: lambda _, value: -value,
    ast.UAdd: lambda _, value: +value,
}
# Kinds of which equal constants may be one object.
_MERGED = ATOMS | {tuple, frozenset}
_SINGLE = {type(None), bool, type(...)}


class Operations(Calling):
    """What operators come to, and what a loop draws."""

    def rounds(self, value: Any) -> Iterator[Any]:
        """The same one after the other, for a loop whose body may change it."""
        if isinstance(value, Lazy):
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
            self.drew([value])

    def truth(self, value: Any) -> bool | None:
        """None where it hangs on an answer."""
        if not self.holds(value):
            return None
        if type(value) in DATA:
            return bool(self.members.get(id(value), value))
        if isinstance(value, Closure):
            return True
        raise Ended

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        if self.is_known(left) and self.is_known(right):
            return self.native(op, left, right)
        if self.holds(left) and self.holds(right) and isinstance(op, ast.BitOr | ast.BitAnd | ast.Sub):
            # Two sets, of which one has an order that is not known.
            made: set[Any] = set()
            held = [self.members.get(id(one), one) for one in (left, right)]
            self.unordered(made).update(self.native(op, *held))
            return made
        kind = added(type(op).__name__, self.kind(left), self.kind(right))
        return self.may_fail() if kind is None else Unknown(kind)

    def put(self, container: Any, key: Any, value: Any) -> None:
        """`container[key] = value`"""
        known = self.is_known(container) and self.is_known(key) and not self.doubt
        if type(container) in DICTS:
            if self.keyed(key) and known:
                container[key] = value
            else:
                self.put_somewhere(container, value)
        elif type(container) is list and known:
            container[key] = value
        else:
            raise Ended

    def native(self, op: ast.AST, left: Any, right: Any) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            # Equal values of ours may be one object of the code's.
            if not any(type(one) not in _MERGED or type(one) in _SINGLE for one in (left, right)):
                raise Ended
        elif not {type(left), type(right)} <= DATA or type(op) not in _OPERATORS:
            raise Ended
        if isinstance(op, ast.Mod) and isinstance(left, str | bytes) and not self.shown([right]):
            raise Ended
        self.plain([left, right])
        return _OPERATORS[type(op)](left, right)

    def part(self, of: Any, part: Any) -> Any:
        if type(of) in (defaultdict, Counter):
            return self._value_of(of, part)
        edges = [part.start, part.stop, part.step] if type(part) is slice else [part]
        if self.is_known(of) and all(self.is_known(edge) for edge in edges):
            if type(of) in DATA:
                return of[part]
            raise Ended
        if type(part) is slice and part.step is None and all(self.kind(e) in ("int", "NoneType") for e in edges):
            kind = self.kind(of)
            if kind in ("str", "list", "lines", "tuple"):
                return Unknown(kind)
        if isinstance(of, FirstPart) and part == 0 and type(part) is int:
            return Unknown("str")
        return self.may_fail()

    def _value_of(self, of: Any, key: Any) -> Any:
        """`of[key]`, which has a value for a key that it lacks: a defaultdict keeps that."""
        made_by = factory(of)
        if self.keyed(key) and self.is_known(of) and (key in of or not self.doubt):
            return of[key]
        if made_by is type(None) or self.held(of) not in ("", made_by.__name__):
            return self.may_fail()
        if type(of) is defaultdict:
            self.blur(of)
        if made_by not in CONTAINERS:
            return Unknown(made_by.__name__)
        # One of those in it, of which nothing is known any more either.
        value = made_by()
        self.blur(value)
        return value
