"""Attributes and methods of values in a rehearsal: called as they are, or as far as their type tells the outcome."""

import builtins
import re
import string
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..calls import Query, Reply
from .machine import TOLD, Machine
from .natives import ATOMS, CHANGING, CONTAINERS, DICTS, ITERATORS, METHODS, SEARCHES, VIEWS
from .unknown import (
    HASHABLE,
    LISTS,
    Ended,
    Found,
    Holding,
    Match,
    Opaque,
    Parts,
    Text,
    Unknown,
    common_kind,
    text_method_kind,
)

DATA = ATOMS | CONTAINERS | VIEWS
ITERABLE = CONTAINERS | VIEWS | ITERATORS | {str, bytes, range}
_METHODICAL = DATA | {Query, re.Pattern, re.Match}
# The classes of unknown values whose kind is not the name of a built-in class.
_CLASSES = {"lines": list, "numbers": list, "match": re.Match}


@dataclass(slots=True, eq=False, repr=False)
class Method(Opaque):
    """A bound method: `of.name`, not yet called."""

    of: Any
    name: str


@dataclass(slots=True, eq=False, repr=False)
class Pool(Opaque):
    """A thread pool that the rehearsal has made."""


@dataclass(slots=True, eq=False, repr=False)
class Task(Opaque):
    """A future: a task given to a thread pool, with its result. As a key it is one that nobody knows."""

    result: Any


class Methods(Machine):
    """Attributes and methods of values."""

    def attribute(self, of: Any, name: str) -> Any:
        """The value of `of.name`."""
        if isinstance(of, ModuleType):
            return self.shadows.of(vars(of)[name])
        if isinstance(of, Reply) and name in ("finish", "code") and hasattr(of, name):
            return getattr(of, name)
        if name.startswith("_"):
            raise Ended
        if isinstance(of, Unknown):
            if of.kind == "data":
                self.may_fail()
                return Method(of, name)
            its = None if of.kind == "any" else _CLASSES.get(of.kind) or getattr(builtins, of.kind, None)
            return Method(of, name) if hasattr(its, name) else self.may_fail()
        if isinstance(of, Pool | Task) or (type(of) in _METHODICAL and callable(getattr(type(of), name, None))):
            return Method(of, name)
        raise Ended

    @abstractmethod
    def truth(self, value: Any) -> bool | None:
        """Whether a value is true, None if an answer decides."""

    @abstractmethod
    def rounds(self, value: Any) -> Iterator[Any]:
        """What a loop over a value draws, one after the other."""

    def of_value(self, method: Method, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """The result of a method of plain data, or of an unknown value."""
        of, name = method.of, method.name
        every = [*arguments, *keywords.values()]
        if isinstance(of, str) or self.kind(of) == "str":
            return self._text_method(of, name, arguments, keywords)
        if isinstance(of, Match) and name in _OF_MATCHES and len(arguments) <= 1 and not keywords:
            group = of.group(*arguments or [0])
            if group is not None:
                return group if name == "group" else Unknown(_OF_MATCHES[name])
        if isinstance(of, Unknown):
            # An unknown list may be the same object as one that is known by another name.
            if not any(name in methods for methods in METHODS.values()):
                raise Ended
            plain = set(map(self.kind, every)) <= TOLD | {"data"}
            if of.kind == "data" and not plain and name != "get":
                # `join` would draw from an iterator.
                raise Ended
            self.may_fail()
            # `get` may return its argument, which may be known by another name.
            return Unknown("data" if of.kind == "data" and plain else "any")
        if name in CHANGING.get(type(of), ()):
            change = self._change_set if type(of) is set else self._change
            return change(of, name, arguments, keywords)
        if type(of) is re.Pattern and name in SEARCHES and any(isinstance(one, Unknown) for one in arguments):
            return self.searched(name, [of, *arguments], keywords)
        if name not in METHODS.get(type(of), ()):
            raise Ended
        if not self.is_known(of) or any(not self.is_known(one) for one in every):
            if type(of) in DICTS and name == "get" and 1 <= len(arguments) <= 2 and not keywords:
                self.key_known(arguments[0])
                return Unknown(self._got(of, (*arguments, None)[1]))
            if type(of) is Counter and name == "most_common" and not every and self.values_kind(of) in ("", "int"):
                return Unknown("list")
            return self.may_fail()
        if any(callable(one) for one in every):
            raise Ended
        self.require_contents([] if name in ("get", "items", "keys", "values", "copy") else [of, *every])
        return getattr(of, name)(*arguments, **keywords)

    def _text_method(self, of: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        every = [*arguments, *keywords.values()]
        if name not in METHODS[str] or any(isinstance(one, Opaque) and not isinstance(one, Unknown) for one in every):
            if isinstance(of, Unknown):
                return self.may_fail()
            raise Ended
        known = self.is_known(of) and all(self.is_known(one) for one in every)
        if name == "format" and self.is_known(of):
            return self._filled(of, arguments, keywords)
        if name == "join" and len(arguments) == 1 and not keywords and (not known or self.holds_unknown(every)):
            parts = arguments[0]
            if self.kind(parts) == "lines":
                return Unknown("str")
            held = self.members.get(id(parts)) or list(self.rounds(parts))
            if all(self.kind(part) == "str" for part in held):
                return Unknown("str")
            return self.may_fail()
        if known:
            self.require_contents(every)
            self.mark_drawn(every)
            return getattr(of, name)(*arguments, **keywords)
        separator = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        splits = isinstance(of, Holding) and separator != "" and separator in of.part
        if splits and name in ("split", "rsplit") and arguments[1:] == [1]:
            return [Unknown("str"), Unknown("str")]
        if keywords:
            return self.may_fail()
        kind = text_method_kind(name, [self.kind(one) for one in arguments], arguments)
        if kind is None:
            return self.may_fail()
        if name == "split" and arguments and arguments != [None]:
            return Parts(2 if splits else 1)
        if kind == "tuple":
            return Unknown("str"), Unknown("str"), Unknown("str")
        return Unknown(kind)

    def _filled(self, form: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """The result of `form.format(…)`."""
        for _, field, spec, _ in string.Formatter().parse(form):
            # An attribute may show what stands for a value here, an item may be one that a defaultdict adds; a
            # specification in an answer may be invalid.
            if {".", "["} & set(field or "") or "{" in (spec or ""):
                raise Ended
        every = [*arguments, *keywords.values()]
        unknown = [one for one in every if isinstance(one, Unknown)]
        if not self.text_known([one for one in every if not isinstance(one, Unknown)]):
            raise Ended
        if any(self.kind(one) != "str" for one in unknown):
            return self.may_fail()
        # A format that accepts an empty text accepts any.
        texts = ["" if isinstance(one, Unknown) else one for one in arguments]
        named = {name: "" if isinstance(one, Unknown) else one for name, one in keywords.items()}
        text = form.format(*texts, **named)
        return Text(*_around_fields(form)) if unknown else text

    def searched(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """The result of a function of `re` on a text of which only the type is known."""
        place = 2 if name == "sub" else 1
        known = [*arguments[:place], *arguments[place + 1 :], *keywords.values()]
        text = arguments[place] if len(arguments) > place else None
        if self.kind(text) != "str" or any(type(one) not in (str, re.Pattern, re.RegexFlag) for one in known):
            return self.may_fail()
        # Raises what is wrong with the other arguments; the text itself cannot make it fail.
        SEARCHES[name](*arguments[:place], "", *arguments[place + 1 :], **keywords)
        *_, flags = (0, keywords.get("flags", 0), *arguments[place + (2 if name in ("sub", "split") else 1) :])
        pattern = _compiled(arguments[0], flags)
        groups = pattern.groups
        match name:
            case "sub":
                return Unknown("str")
            case "findall":
                return Unknown("lines" if groups < 2 else "list")
            case "split":
                return Unknown("list" if groups else "lines")
            case "finditer":
                return Found(pattern, "matches")
        return Found(pattern)

    def _change(self, of: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if keywords:
            raise Ended
        match name, arguments:
            case "append", [_] if type(of) is list:
                pass
            case "extend", [value] if type(of) is list:
                if isinstance(value, Unknown) and value.kind in LISTS | {"str", "tuple"}:
                    self.blur(of)
                elif self.kind(value) == "data":
                    self.may_fail()
                elif type(value) not in (list, tuple, str):
                    raise Ended
                elif not self.is_known(value):
                    self.blur(of)
            case "update", [value] if type(of) is Counter and (
                isinstance(value, Unknown) or type(value) in (list, tuple, str)
            ):
                self._counted(of, value)
            case _:
                if self.doubt or not self.is_known(of) or any(not self.is_known(one) for one in arguments):
                    raise Ended
                # These two compare the items that are there.
                self.require_contents([of, *arguments] if name in ("remove", "sort") else arguments)
        if self.may_change(of):
            return getattr(of, name)(*arguments)
        self.text_known(arguments)
        return None

    def _counted(self, of: Any, value: Any) -> None:
        """Makes sure that a Counter can count these items. It is not known from now on if one of them is not."""
        if self.values_kind(of) not in ("", "int"):
            raise Ended
        if isinstance(value, Unknown):
            if value.kind not in ("str", "lines", "numbers"):
                self.may_fail()
            self.blur(of)
        else:
            known = [self.key_known(one) for one in self.items(value)]
            if not all(known):
                self.blur(of)

    def _change_set(self, of: set[Any], name: str, arguments: list[Any], keywords: dict[str, Any]) -> None:
        """Changes a set. Its order stays known only if the rehearsal has made it, and only adds to it."""
        if keywords or len(arguments) != 1:
            raise Ended
        (value,) = arguments
        values = [value]
        if name == "update":
            values = list(self.members[id(value)] if id(value) in self.members else self.items(value))
        known = [self.key_known(one) for one in values]
        if not all(known) or self.doubt or not self.contents_known(of):
            if name == "remove":
                raise Ended
            self.blur(of)
        elif name not in ("add", "update"):
            if value in self.members.get(id(of), of):
                self.unordered(of).discard(value)
            elif name == "remove":
                raise Ended
        elif not set(values) <= self.members.get(id(of), of):
            if name == "add" and self.is_known(of) and not self.shadows.shared(of):
                of.add(value)
            else:
                self.unordered(of).update(values)

    def key_known(self, value: Any) -> bool:
        """Whether a key is known. A value that may not be hashable is one that may fail."""
        if isinstance(value, Unknown):
            if value.kind not in HASHABLE:
                self.may_fail(TypeError)
            return False
        if isinstance(value, Task):
            return False
        hash(value)
        return True

    def _got(self, of: Any, default: Any) -> str:
        """The kind of `of.get(…, default)`, `any` for a container: it may be one that is known by another name."""
        kind = common_kind((self.values_kind(of), self.kind(default)))
        return kind if kind in HASHABLE else "any"

    def items(self, value: Any) -> Any:
        """A value that is to be iterated over. Raises Ended unless its items are known."""
        if type(value) not in ITERABLE or not self.is_known(value):
            raise Ended
        self.require_contents([value] if type(value) in VIEWS | ITERATORS else [])
        return value


# What methods of a match tell of one of its groups.
_OF_MATCHES = {"group": "", "start": "int", "end": "int", "span": "tuple"}


def _compiled(pattern: Any, flags: Any) -> "re.Pattern[str]":
    return pattern if isinstance(pattern, re.Pattern) else re.compile(pattern, flags)


def _around_fields(form: str) -> tuple[str, str]:
    """What stands before the first field of a form for `str.format`, and after the last."""
    pieces = [(text, field) for text, field, _, _ in string.Formatter().parse(form)]
    (begin, _), (end, field) = pieces[0], pieces[-1]
    return begin, end if field is None else ""
