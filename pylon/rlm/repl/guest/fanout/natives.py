"""Built-in functions, methods and types that a rehearsal uses as they are.

With plain data they change nothing but the rehearsal's own values, and run no code of the cell's.
"""

import builtins
import json
import math
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

from ..calls import Reply, SubCallError
from .unknown import Ended

# Types of values that never change.
ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), range, slice, type(...), Reply, SubCallError})
DICTS = frozenset({dict, defaultdict, Counter})
CONTAINERS = DICTS | {list, tuple, set, frozenset}
# The default factories of a defaultdict that run no code of the cell's.
_FACTORIES = (list, dict, set, int, float, str)
VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
ITERATORS = frozenset(
    {enumerate, zip, reversed, GeneratorType}
    | {type(iter(kind())) for kind in (list, tuple, dict, set, str, bytes)}
    | {type(iter("é")), type(iter({}.values())), type(iter({}.items())), type(iter(range(0))), type(reversed([]))}
)

# Built-in functions that only return a value when they are called with plain data.
FUNCTIONS = {
    getattr(builtins, name): name
    for name in [
        "abs",
        "all",
        "any",
        "bool",
        "bytes",
        "chr",
        "dict",
        "divmod",
        "enumerate",
        "float",
        "frozenset",
        "int",
        "iter",
        "len",
        "list",
        "max",
        "min",
        "ord",
        "pow",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "zip",
    ]
} | {Counter: "Counter"}
# Functions of modules of which the same is true. What counts is the object, since code may replace them by others.
_OF_MODULES: tuple[Any, ...] = (
    *(json.dumps, json.loads, textwrap.dedent, textwrap.shorten, textwrap.wrap, textwrap.indent),
    *(math.ceil, math.floor, math.sqrt, math.log),
    *(re.sub, re.split, re.findall, re.search, re.match, re.fullmatch, re.escape, re.compile),
)
_IDS = frozenset(map(id, _OF_MODULES))
# By name, the functions that search a text for a regular expression.
SEARCHES: dict[str, Any] = {
    one.__name__: one for one in (re.sub, re.split, re.findall, re.search, re.match, re.fullmatch)
}
# Modules that a rehearsal may import if they are loaded already.
MODULES = frozenset(
    {"collections", "json", "textwrap", "math", "re", "concurrent.futures", "itertools", "functools", "time"}
)


# Where Python's own functions are found that these and the rehearsal itself call.
_PYTHON: tuple[Any, ...] = (
    *(builtins, json, json.encoder, json.decoder, math, re, textwrap),
    *(json.JSONEncoder, json.JSONDecoder, textwrap.TextWrapper, Counter),
)

type Snapshot = list[tuple[Mapping[str, Any], dict[str, Any]]]


def snapshot() -> Snapshot:
    """Python's own functions as they are now."""
    return [(vars(one), dict(vars(one))) for one in _PYTHON]


def unchanged(python: Snapshot) -> bool:
    """Whether the code has replaced none of these functions. Calls none of them to find out."""
    for now, before in python:
        for name, value in before.items():
            if name not in now or now[name] is not value:
                return False
    return True


def module_function(function: Any) -> bool:
    """Whether this is one of the modules' functions that only return a value."""
    return id(function) in _IDS


def factory(of: defaultdict[Any, Any] | Counter[Any]) -> Any:
    """The class that makes the value of a missing key, NoneType if a missing key is an error.

    Raises Ended for any other factory, which may be a function of the code's own.
    """
    made_by = of.default_factory if type(of) is defaultdict else int
    if made_by is None:
        return type(None)
    if not any(made_by is one for one in _FACTORIES):
        raise Ended
    return made_by


# Methods of plain data that change nothing.
METHODS = frozenset(
    [
        "capitalize",
        "casefold",
        "center",
        "copy",
        "count",
        "decode",
        "encode",
        "endswith",
        "expandtabs",
        "find",
        "format",
        "get",
        "index",
        "isalnum",
        "isalpha",
        "isdecimal",
        "isdigit",
        "islower",
        "isnumeric",
        "isspace",
        "istitle",
        "isupper",
        "items",
        "join",
        "keys",
        "ljust",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rjust",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "translate",
        "upper",
        "values",
        "zfill",
        "union",
        "intersection",
        "difference",
        "issubset",
        "issuperset",
        "isdisjoint",
        "group",
        "groups",
        "groupdict",
        "start",
        "end",
        "span",
        "findall",
        "search",
        "match",
        "fullmatch",
        "sub",
    ]
)
# Methods of containers that change them.
CHANGING = frozenset(
    [
        "append",
        "extend",
        "insert",
        "pop",
        "remove",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
        "discard",
        "difference_update",
        "intersection_update",
    ]
)
