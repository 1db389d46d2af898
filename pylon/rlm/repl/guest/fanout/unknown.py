"""Values that depend on an answer: at most their type is known, and what it says of operations on them.

Each special method of such a value raises `Ended`, so that it ends the rehearsal in the middle of a built-in function
too.
"""

from typing import Any, NoReturn


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

    `kind` is the name of a built-in class, `lines` for a list of str, `data` for plain data of any type that only an
    answer tells, such as parsed JSON or a match, or `any` for a value that may be one of the code's own too.
    """

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Parts(Unknown):
    """The list that splitting a text by a separator gives: unlike other lists it has at least `count` items."""

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


_TEXT_METHODS: dict[str, tuple[str, frozenset[int]]] = {
    **dict.fromkeys(("strip", "lstrip", "rstrip"), ("str", frozenset({0, 1}))),
    **dict.fromkeys(
        ("lower", "upper", "title", "capitalize", "casefold", "swapcase"),
        ("str", frozenset({0})),
    ),
    **dict.fromkeys(("removeprefix", "removesuffix"), ("str", frozenset({1}))),
    "replace": ("str", frozenset({2})),
    **dict.fromkeys(("startswith", "endswith"), ("bool", frozenset({1}))),
    **dict.fromkeys(
        ("isdigit", "isalpha", "isspace", "isnumeric", "isupper", "islower", "isalnum"), ("bool", frozenset({0}))
    ),
    **dict.fromkeys(("find", "rfind", "count"), ("int", frozenset({1}))),
    "splitlines": ("lines", frozenset({0})),
    **dict.fromkeys(("partition", "rpartition"), ("tuple", frozenset({1}))),
}
HASHABLE = frozenset({"str", "int", "float", "bool", "NoneType", "bytes"})
# Kinds whose items can be drawn though their number is not known, and the kind of these.
ITEMS = {"lines": "str", "data": "data"}
_SIZED = frozenset({"str", "list", "lines", "dict", "set", "tuple"})
_NUMBER = frozenset({"int", "float", "bool"})
_LISTS = frozenset({"list", "lines"})


def text_method(name: str, arguments: list[str], texts: list[object]) -> str | None:
    """The kind of the result of a method of an unknown str, None if it may fail.

    `arguments` are the kinds of its arguments, `texts` the arguments themselves.
    """
    if name == "split":
        # An empty separator is an error.
        separated = len(texts) == 1 and isinstance(texts[0], str) and bool(texts[0])
        return "lines" if not arguments or separated or texts == [None] else None
    if name in ("partition", "rpartition") and not (isinstance(texts[0] if texts else None, str) and texts[0]):
        return None
    kind, counts = _TEXT_METHODS.get(name, ("", frozenset()))
    return kind if len(arguments) in counts and all(one == "str" for one in arguments) else None


def compared(operator: str, left: str, right: str) -> bool:
    """Whether a comparison of values of two kinds cannot fail."""
    if operator in ("Eq", "NotEq", "Is", "IsNot"):
        return True
    if operator in ("In", "NotIn"):
        contained = right in ("list", "lines", "tuple") or (right in ("dict", "set") and left in HASHABLE)
        return contained or left == right == "str"
    return left == right == "str" or (left in _NUMBER and right in _NUMBER)


def added(operator: str, left: str, right: str) -> str | None:
    """The kind of the result of an operator on two kinds, None if it may fail."""
    if operator == "Add" and left == right == "str":
        return "str"
    if operator == "Add" and left in _LISTS and right in _LISTS:
        return "lines" if left == right == "lines" else "list"
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


def made(function: str, kinds: list[str]) -> str | None:
    """The kind of the result of a built-in function of one argument, None if it may fail."""
    if len(kinds) != 1:
        return None
    if function == "len":
        return "int" if kinds[0] in _SIZED else None
    if kinds[0] == "lines" and function in ("list", "sorted"):
        return "lines"
    if function == "list" and kinds[0] in ("str", "list"):
        return "lines" if kinds[0] == "str" else "list"
    return {"str": "str", "repr": "str", "bool": "bool"}.get(function)


def joined(one: str, other: str) -> str:
    """The kind of a value that has one of two kinds; an empty kind stands for no value."""
    if one == other or not (one and other):
        return one or other
    return "list" if {one, other} == _LISTS else "any"
