"""Attributes and methods of values in a rehearsal: called as they are, or as far as their type tells the outcome."""

import builtins
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..calls import Query, Reply
from .machine import Machine
from .natives import ATOMS, CHANGING, CONTAINERS, ITERATORS, METHODS, VIEWS
from .unknown import HASHABLE, Ended, FirstPart, Opaque, Unknown, text_method

DATA = ATOMS | CONTAINERS | VIEWS
ITERABLE = CONTAINERS | VIEWS | ITERATORS | {str, bytes, range}
_METHODICAL = DATA | {Query, re.Pattern, re.Match}


@dataclass(slots=True, eq=False)
class Method(Opaque):
    """`of.name`, to be called."""

    of: Any
    name: str


@dataclass(slots=True, eq=False)
class Pool(Opaque):
    """A thread pool."""


@dataclass(slots=True, eq=False)
class Task(Opaque):
    """What a pool was given, done."""

    result: Any


class Methods(Machine):
    """What attributes and methods of values come to."""

    def attribute(self, of: Any, name: str) -> Any:
        if isinstance(of, ModuleType):
            if name not in vars(of):
                raise Ended
            return self.shadows.of(vars(of)[name])
        if isinstance(of, Reply) and name in ("finish", "code") and hasattr(of, name):
            return getattr(of, name)
        if name.startswith("_"):
            raise Ended
        if isinstance(of, Unknown):
            its = None if of.kind == "any" else getattr(builtins, {"lines": "list"}.get(of.kind, of.kind), None)
            return Method(of, name) if hasattr(its, name) else self.may_fail()
        if isinstance(of, Pool | Task) or (type(of) in _METHODICAL and callable(getattr(type(of), name, None))):
            return Method(of, name)
        raise Ended

    def of_value(self, method: Method, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        of, name = method.of, method.name
        every = [*arguments, *keywords.values()]
        if isinstance(of, str) or self.kind(of) == "str":
            return self._text_method(of, name, arguments, keywords)
        if isinstance(of, Unknown):
            # An unknown list may be one that has another name.
            if name in CHANGING:
                raise Ended
            return self.may_fail()
        if name in CHANGING and type(of) in (list, dict, set):
            return self._change(of, name, arguments, keywords)
        if name not in METHODS or any(isinstance(one, Opaque) and not isinstance(one, Unknown) for one in every):
            raise Ended
        if not self.is_known(of) or any(not self.is_known(one) for one in every):
            if type(of) is dict and name == "get" and 1 <= len(arguments) <= 2 and not keywords:
                self.hashed(arguments[0])
                return Unknown("any")
            return self.may_fail()
        if any(callable(one) for one in every):
            raise Ended
        self.plain([] if name in ("get", "items", "keys", "values", "copy") else [of, *every])
        return getattr(of, name)(*arguments, **keywords)

    def _text_method(self, of: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        every = [*arguments, *keywords.values()]
        if name not in METHODS or any(isinstance(one, Opaque) and not isinstance(one, Unknown) for one in every):
            if isinstance(of, Unknown):
                return self.may_fail()
            raise Ended
        known = self.is_known(of) and all(self.is_known(one) for one in every)
        if name == "join" and len(arguments) == 1 and not keywords and (not known or self.holds_unknown(every)):
            parts = arguments[0]
            if self.kind(parts) == "lines":
                return Unknown("str")
            if self.is_known(parts) and all(self.kind(part) == "str" for part in self.items(parts)):
                return Unknown("str")
            return self.may_fail()
        if known:
            if any(callable(one) for one in every):
                raise Ended
            self.plain(every)
            self.drew(every)
            return getattr(of, name)(*arguments, **keywords)
        if keywords:
            return self.may_fail()
        kind = text_method(name, [self.kind(one) for one in arguments], arguments)
        if kind is None:
            return self.may_fail()
        return FirstPart() if name == "split" and arguments and arguments != [None] else Unknown(kind)

    def _change(self, of: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if keywords:
            raise Ended
        match name, arguments:
            case "append", [_] if type(of) is list:
                pass
            case "add", [value] if type(of) is set:
                if not self.is_known(self.hashed(value)):
                    self.blur(of)
            case "extend", [value] if type(of) is list:
                if isinstance(value, Unknown) and value.kind in ("lines", "list", "str", "tuple"):
                    self.blur(of)
                elif type(value) not in (list, tuple, str):
                    raise Ended
                elif not self.is_known(value):
                    self.blur(of)
            case _:
                if self.doubt or not self.is_known(of) or any(not self.is_known(one) for one in arguments):
                    raise Ended
                self.plain(arguments)
        if not self.changes(of):
            return None if name in ("append", "add", "extend") else self._no_more()
        return getattr(of, name)(*arguments)

    def _no_more(self) -> Any:
        raise Ended

    def hashed(self, value: Any) -> Any:
        """The value, which can be a key. Raises Ended where it may not."""
        if isinstance(value, Unknown):
            if value.kind not in HASHABLE:
                raise Ended
        else:
            hash(value)
        return value

    def holds_unknown(self, value: Any) -> bool:
        """Whether something in it hangs on an answer."""
        seen: set[int] = set()
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if not self.is_known(one):
                return True
            if type(one) in (list, tuple, dict) and id(one) not in seen:
                seen.add(id(one))
                waiting += one.values() if type(one) is dict else one
        return False

    def items(self, value: Any) -> Any:
        """What a loop over it goes through. Raises Ended where that is not known."""
        if type(value) not in ITERABLE or not self.is_known(value):
            raise Ended
        self.plain([value] if type(value) in VIEWS | ITERATORS else [])
        return value
