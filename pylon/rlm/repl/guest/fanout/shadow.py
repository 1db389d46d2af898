"""Copies of the running code's values, for a rehearsal to change: equal, and with the same objects shared."""

import functools
import gc
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

from ..calls import Query
from .budget import Budget
from .natives import ATOMS, CONTAINERS, DICTS, ITERATORS, UNCOPIED, VIEWS, factory
from .unknown import Ended, Opaque, end

# Types whose values a rehearsal uses as they are, and never looks into.
_WHOLE = (FunctionType, BuiltinFunctionType, ModuleType, type, Query, re.Pattern, re.Match, re.RegexFlag)
_PLAIN = ATOMS | CONTAINERS | VIEWS | (ITERATORS - UNCOPIED)
_OVER_HASHES: dict[type, Callable[[Any], Any]] = {
    type(iter({})): iter,
    type(iter({}.values())): lambda over: iter(over.values()),
    type(iter({}.items())): lambda over: iter(over.items()),
    type(iter(set())): iter,
}
# Copying more objects costs more time than fan-out can save.
_MOST_OBJECTS = 2_000_000


@dataclass(slots=True, eq=False, repr=False)
class LazyMap(Opaque):
    """A `map` object: its function is called only when an item is drawn. A `filter` if it `keeps` items by that."""

    function: Any
    iterators: list[Any]
    keeps: bool = False


class Shadows:
    """The copies of one rehearsal. Sets are shared and must not be changed: a copy may have another order."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        # By the id of the original: the original, which keeps its id from being used anew, and its copy.
        self._made: dict[int, tuple[Any, Any]] = {}
        self.generator: Callable[[Any], Any] = end  # gives the copy of a generator
        self._plainly_keyed: dict[int, Any] = {}
        self.objects = 0

    def of(self, value: Any) -> Any:
        """The copy of a value; always the same for the same object.

        Raises Ended for anything but plain data, functions, classes and modules.
        """
        kind = type(value)
        if kind in ATOMS or isinstance(value, Opaque):
            return value
        if id(value) in self._made:
            return self._made[id(value)][1]
        if kind is GeneratorType:
            return self._keep(value, self.generator(value))
        if kind in _PLAIN:
            self.objects += len(value) if kind in CONTAINERS else 1
            if self.objects > _MOST_OBJECTS:
                raise Ended
            self._budget.look()
            return self._copied(kind, value)
        if kind is MethodType and value.__func__ is Query.batch:
            return value
        if kind in (map, filter):
            _, (of, *iterators) = value.__reduce__()
            return self._keep(value, LazyMap(self.of(of), [self.of(one) for one in iterators], kind is filter))
        if kind is functools.partial:
            of, arguments, keywords = (self.of(one) for one in (value.func, value.args, value.keywords))
            return self._keep(value, functools.partial(of, *arguments, **keywords))
        if kind not in _WHOLE:
            raise Ended
        return value

    def shared(self, value: Any) -> bool:
        """Whether a value is the running code's own object."""
        return id(value) in self._made and self._made[id(value)][0] is value

    def untouched(self, value: Any) -> bool:
        """Whether a container is the running code's own and not copied yet, so that one item can be copied alone.

        False if looking an item up might run code: for keys that are not plain data.
        """
        kind = type(value)
        if kind not in (list, tuple, dict) or id(value) in self._made:
            return False
        if kind is dict and id(value) not in self._plainly_keyed:
            self.objects += len(value)
            if not _flat(value):
                return False
            self._plainly_keyed[id(value)] = value
        return True

    def clear(self) -> None:
        """Releases all copies."""
        self._made, self._plainly_keyed, self.generator = {}, {}, end

    def _keep[T](self, value: Any, shadow: T) -> T:
        self._made[id(value)] = (value, shadow)
        return shadow

    def _copied(self, kind: type, value: Any) -> Any:
        if kind is list:
            copy: list[Any] = self._keep(value, [])
            copy.extend(value if _flat(value) else (self.of(one) for one in list(value)))
            return copy
        if kind in DICTS:
            if kind is defaultdict:
                factory(value)
            pairs: dict[Any, Any] = self._keep(
                value, defaultdict(value.default_factory) if kind is defaultdict else kind()
            )
            self._frozen(value)
            if _flat(value.values()):
                dict.update(pairs, value)
            else:
                for key, one in list(value.items()):
                    pairs[key] = self.of(one)
            return pairs
        if kind is tuple:
            return value if _flat(value) else self._keep(value, tuple(self.of(one) for one in value))
        if kind in (set, frozenset):
            self._frozen(value)
            return self._keep(value, value)
        if kind in VIEWS:
            (viewed,) = gc.get_referents(value)
            shadow = self.of(viewed)
            return self._keep(
                value, {"dict_keys": dict.keys, "dict_values": dict.values}.get(kind.__name__, dict.items)(shadow)
            )
        if kind in _OVER_HASHES:
            # An iterator fails if its container has changed: the copy has to iterate over the container's copy.
            over: Any = next((one for one in gc.get_referents(value) if type(one) in (dict, set, frozenset)), {})
            again = _OVER_HASHES[kind](self.of(over))
            for _ in range(len(over) - value.__length_hint__()):
                next(again)
            return self._keep(value, again)
        made, arguments, *state = value.__reduce__()
        again = self._keep(value, made(*(self.of(one) for one in arguments)))
        for one in state:
            again.__setstate__(one)
        return again

    def _frozen(self, values: Any) -> None:
        """Makes sure that the rehearsal may share these keys, or members of a set. Raises Ended if not."""
        waiting = list(values)
        while waiting:
            one = waiting.pop()
            if type(one) is tuple or type(one) is frozenset:
                waiting += one
            elif type(one) not in ATOMS:
                raise Ended


def _flat(values: Any) -> bool:
    return set(map(type, values)) <= ATOMS
