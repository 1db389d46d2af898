"""What a rehearsal may call as it is: it changes nothing but the rehearsal's own values and runs no other code."""

import builtins
import sys
from typing import Any

from ..calls import Reply, SubCallError

# Values that never change.
ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), range, slice, type(...), Reply, SubCallError})
CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
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
}
_OF_MODULES = (
    "json.dumps json.loads textwrap.dedent textwrap.shorten textwrap.wrap textwrap.indent math.ceil math.floor"
    " math.sqrt math.log re.sub re.split re.findall re.search re.match re.fullmatch re.escape re.compile"
)
# Of modules that code may import in a rehearsal, where they are there already.
MODULES = frozenset({"json", "textwrap", "math", "re", "concurrent.futures", "itertools", "functools", "time"})


def module_function(function: Any) -> bool:
    """Whether it is one of the functions of modules that only give a value."""
    for name in _OF_MODULES.split():
        module, _, attribute = name.partition(".")
        if module in sys.modules and getattr(sys.modules[module], attribute, None) is function:
            return True
    return False


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
