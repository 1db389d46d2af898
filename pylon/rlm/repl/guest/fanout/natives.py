"""What a rehearsal may call as it is: it changes nothing but the rehearsal's own values and runs no other code."""

import builtins
import json
import math
import re
import textwrap
from collections import Counter, defaultdict
from typing import Any

from ..calls import Reply, SubCallError
from .unknown import Ended

# Values that never change.
ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), range, slice, type(...), Reply, SubCallError})
DICTS = frozenset({dict, defaultdict, Counter})
CONTAINERS = DICTS | {list, tuple, set, frozenset}
_FACTORIES = (list, dict, set, int, float, str)
VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
ITERATORS = frozenset(
    {enumerate, zip, reversed}
    | {type(iter(kind())) for kind in (list, tuple, dict, set, str, bytes)}
    | {type(iter("é")), type(iter({}.values())), type(iter({}.items())), type(iter(range(0))), type(reversed([]))}
)

# Called with plain data these do nothing but give a value.
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
# Of modules, with which the same holds. They are these very objects: code may put others in their places.
_OF_MODULES: tuple[Any, ...] = (
    *(json.dumps, json.loads, textwrap.dedent, textwrap.shorten, textwrap.wrap, textwrap.indent),
    *(math.ceil, math.floor, math.sqrt, math.log),
    *(re.sub, re.split, re.findall, re.search, re.match, re.fullmatch, re.escape, re.compile),
)
_IDS = frozenset(map(id, _OF_MODULES))
# By name, those that look for a regular expression in their last argument.
SEARCHES: dict[str, Any] = {
    one.__name__: one for one in (re.sub, re.split, re.findall, re.search, re.match, re.fullmatch)
}
# Modules that code may import in a rehearsal, where they are loaded already.
MODULES = frozenset(
    {"collections", "json", "textwrap", "math", "re", "concurrent.futures", "itertools", "functools", "time"}
)


def module_function(function: Any) -> bool:
    """Whether it is one of the functions of modules that only give a value."""
    return id(function) in _IDS


def factory(of: defaultdict[Any, Any] | Counter[Any]) -> Any:
    """The class of which a key that it lacks gets its value; NoneType where it gets none.

    Raises Ended for anything else that makes values: it may be the code's own.
    """
    made_by = of.default_factory if type(of) is defaultdict else int
    if made_by is None:
        return type(None)
    if not any(made_by is one for one in _FACTORIES):
        raise Ended
    return made_by


# Methods that change nothing, of whatever plain data has them.
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
