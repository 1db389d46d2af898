"""Values that depend on an answer: at most their type is known, and what it says of operations on them.

Each special method of such a value raises `Ended`, so that it ends the rehearsal in the middle of a built-in function
too.
"""

import re
from collections.abc import Iterable
from typing import Any, NoReturn

from .facts import Fact
from .followed import OF_AN_ANSWER


class Ended(BaseException):
    """The rehearsal cannot follow the code any further. The sub-calls found so far are certain all the same."""


def end(*_: Any, **__: Any) -> NoReturn:
    """Raises Ended, whatever it is given."""
    raise Ended


class Opaque:
    """A value that stands for one of the code's and that only the rehearsal itself may look into.

    Any operation on it raises Ended. Subclasses must not define special methods; a dataclass among them takes
    `eq=False, repr=False`.
    """

    __slots__ = ()


_BINARY = "add sub mul truediv floordiv mod pow and or xor lshift rshift matmul"
_SPECIAL = f"""
    bool bytes call complex float fspath format hash index int len length_hint repr str
    abs ceil floor invert neg pos round trunc divmod rdivmod {_BINARY}
    {" ".join(f"r{name} i{name}" for name in _BINARY.split())}
    eq ge gt le lt ne
    contains delitem getattr getitem iter next reversed setitem
    aenter aexit aiter anext await enter exit
    buffer copy deepcopy dir getstate reduce reduce_ex
"""
for _name in _SPECIAL.split():
    setattr(Opaque, f"__{_name}__", end)


class Unknown(Opaque):
    """A value of which only the kind is known.

    `kind` is the name of a built-in class, `lines` for a list of str, `numbers` for one of int and bool, `match` and
    `matches` for a match of a regular expression and an iterator over such, `data` for plain data of any type that
    only an answer tells, such as parsed JSON, or `any` for a value that may be one of the code's own too.
    """

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Parts(Unknown):
    """A list of str that has at least `count` items, such as splitting a text by a separator gives."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        super().__init__("lines")
        self.count = count


class Holding(Unknown):
    """A text that contains the text `part`."""

    __slots__ = ("part",)

    def __init__(self, part: str) -> None:
        super().__init__("str")
        self.part = part


class Found(Unknown):
    """What a search for `pattern` gives: a match, or None. All matches where `kind` is `matches`."""

    __slots__ = ("pattern",)

    def __init__(self, pattern: "re.Pattern[str]", kind: str = "data") -> None:
        super().__init__(kind)
        self.pattern = pattern


class Match(Found):
    """A match of `pattern`."""

    __slots__ = ()

    def __init__(self, pattern: "re.Pattern[str]") -> None:
        super().__init__(pattern, "match")

    def group(self, which: object) -> "Unknown | None":
        """The value of one of its groups, None if the pattern has no such group."""
        groups = self.pattern.groups
        if which != 0 and which not in self.pattern.groupindex and which not in range(1, groups + 1):
            return None
        # A group that takes no part in the match is None.
        return Unknown("str" if which == 0 or all_take_part(self.pattern) else "data")


# What a group may stand in without taking part in each match: a choice, something that may be left out, a look at
# what does not follow, a condition. Verbose patterns may have comments between the two.
_LEFT_OUT = re.compile(r"[|]|\)[?*{]|\(\?(?!:|P<|=|<=)")


def all_take_part(pattern: "re.Pattern[str]") -> bool:
    """Whether each group of a pattern has surely a text in each match."""
    return not pattern.flags & re.VERBOSE and not _LEFT_OUT.search(pattern.pattern)


class Text(Unknown):
    """A text of which the beginning and the end are known: most prompts that hold an answer are such."""

    __slots__ = ("begin", "end")

    def __init__(self, begin: str, end: str) -> None:
        super().__init__("str")
        self.begin, self.end = begin, end


def edges(value: object) -> tuple[str, str]:
    """What is known of how a value begins and ends as a text."""
    if isinstance(value, str):
        return value, value
    return (value.begin, value.end) if isinstance(value, Text) else ("", "")


def concatenated(parts: list[Any]) -> str | Text:
    """The text that these texts make one after the other. Some may be unknown."""
    known = [isinstance(part, str) for part in parts]
    if all(known):
        return "".join(parts)
    first, last = known.index(False), len(parts) - known[::-1].index(False)
    begin = "".join(parts[:first]) + edges(parts[first])[0]
    return Text(begin, edges(parts[last - 1])[1] + "".join(parts[last:]))


HASHABLE = frozenset({"str", "int", "float", "bool", "NoneType", "bytes"})
# Kinds whose items can be drawn though their number is not known, and the kind of these.
ITEMS = {"lines": "str", "numbers": "int", "matches": "match", "data": "data"}
_NUMBER = frozenset({"int", "float", "bool"})
LISTS = frozenset({"list", "lines", "numbers"})
_SIZED = LISTS | {"str", "dict", "set", "tuple"}
# The kind of a list whose items all have one kind; of any other it is `list`.
LIST_OF = {"str": "lines", "int": "numbers", "bool": "numbers"}


def text_method_kind(name: str, arguments: list[str], texts: list[object]) -> str | None:
    """The kind of the result of a method of an unknown str, None if it may fail.

    `arguments` are the kinds of its arguments, `texts` the arguments themselves.
    """
    if name == "split":
        # An empty separator is an error.
        separated = len(texts) == 1 and isinstance(texts[0], str) and bool(texts[0])
        return "lines" if not arguments or separated or texts == [None] else None
    if name in ("partition", "rpartition") and not (isinstance(texts[0] if texts else None, str) and texts[0]):
        return None
    kind, counts = OF_AN_ANSWER.get(name, ("", frozenset()))
    return kind if len(arguments) in counts and all(one == "str" for one in arguments) else None


def can_compare(operator: str, left: str, right: str) -> bool:
    """Whether a comparison of values of two kinds cannot fail."""
    if operator in ("Eq", "NotEq", "Is", "IsNot"):
        return True
    if operator in ("In", "NotIn"):
        contained = right in LISTS | {"tuple"} or (right in ("dict", "set") and left in HASHABLE)
        return contained or left == right == "str"
    return left == right == "str" or (left in _NUMBER and right in _NUMBER)


def operator_kind(operator: str, left: str, right: str) -> str | None:
    """The kind of the result of an operator on two kinds, None if it may fail."""
    if operator == "Add" and left == right == "str":
        return "str"
    if operator == "Add" and left in LISTS and right in LISTS:
        return left if left == right else "list"
    if operator in ("Add", "Sub", "Mult") and left == right == "float":
        return "float"
    # A product may have more digits than Python shows.
    if operator in ("Add", "Sub") and left in ("int", "bool") and right in ("int", "bool"):
        return "int"
    return None


def formats(form: object, kind: str) -> bool:
    """Whether `format` accepts this format specification for any value of the kind."""
    example = {"str": "", "int": 0, "float": 0.0}.get(kind)
    # An int may be too large for a float, and for a character.
    if not isinstance(form, str) or example is None or (kind == "int" and form[-1:] in set("eEfFgG%c")):
        return False
    try:
        format(example, form)
    except ValueError:
        return False
    return True


def function_kind(function: str, kinds: list[str]) -> str | None:
    """The kind of the result of a built-in function of one argument, None if it may fail."""
    if len(kinds) != 1:
        return None
    if function == "len":
        return "int" if kinds[0] in _SIZED else None
    if kinds[0] in ("lines", "numbers") and function in ("list", "sorted"):
        return kinds[0]
    if kinds[0] == "numbers" and function == "sum":
        return "int"
    if function == "list" and kinds[0] in ("str", "list"):
        return "lines" if kinds[0] == "str" else "list"
    return {"str": "str", "repr": "str", "bool": "bool"}.get(function)


def common_kind(kinds: Iterable[str]) -> str:
    """The kind of a value that has one of these kinds, an empty text if there are none, or only empty ones."""
    known = set(kinds) - {""}
    if len(known) <= 1:
        return "".join(known)
    return "list" if known <= LISTS else "any"


def item_of(value: Unknown) -> Unknown:
    """An item of a value whose kind is among `ITEMS`."""
    return (
        Match(value.pattern) if isinstance(value, Found) and value.kind == "matches" else Unknown(ITEMS[value.kind])
    )


def narrowed(value: Unknown, fact: Fact | str) -> Unknown:
    """The same value, of which a condition has told something: that it contains a text, or what `Fact` says."""
    match value, fact:
        case Unknown(kind="str"), str(part):
            return Holding(part)
        case Found(kind="data", pattern=pattern), Fact.TRUE | Fact.NOT_NONE:
            return Match(pattern)
        case Unknown(kind="lines"), Fact.TRUE if not isinstance(value, Parts):
            return Parts(1)
    return value
