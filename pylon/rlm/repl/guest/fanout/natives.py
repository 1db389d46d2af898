"""The types, functions and methods of Python that the tables in `followed.py` name.

With plain data they change nothing but the rehearsal's own values, and run no code of the cell's.
"""

import builtins
import collections
import functools
import heapq
import itertools
import json
import math
import re
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

from ..calls import Reply, SubCallError
from . import followed
from .unknown import Ended


def _found(names: Mapping[str, frozenset[str]]) -> dict[Any, str]:
    """The objects of these names, by module."""
    return {vars(one)[name]: name for one in _MODULES for name in names.get(one.__name__, ())}


def _listed(kind: type) -> str:
    """How `followed.py` names a type."""
    if issubclass(kind, str):
        return "str"
    return f"re.{kind.__name__}" if kind in (re.Match, re.Pattern) else kind.__name__


_MODULES = (builtins, collections, functools, itertools, json, math, re, textwrap, time)
# Types of values that never change.
ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), range, slice, type(...), Reply, SubCallError})
DICTS = frozenset({dict, defaultdict, Counter})
CONTAINERS = DICTS | {list, tuple, set, frozenset}
# The default factories of a defaultdict that run no code of the cell's.
_FACTORIES = (list, dict, set, int, float, str)
VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
# Of these no copy can be made: they are followed where a rehearsal has made them itself.
UNCOPIED = frozenset({vars(itertools)[name] for name in followed.CALLED["itertools"]} | {type(re.finditer("", ""))})
ITERATORS = UNCOPIED | frozenset(
    {enumerate, zip, reversed, GeneratorType}
    | {type(iter(kind())) for kind in (list, tuple, dict, set, str, bytes)}
    | {type(iter("é")), type(iter({}.values())), type(iter({}.items())), type(iter(range(0))), type(reversed([]))}
)

# Functions and classes that are called as they are, and those that are interpreted, each with its name. What counts
# is the object: code may replace one by another. Without thread pools, of which sandboxes have classes of their own.
CALLED: dict[Any, str] = _found(followed.CALLED)
INTERPRETED: dict[Any, str] = _found(followed.INTERPRETED)
# By name, the functions that search a text for a regular expression.
SEARCHES: dict[str, Any] = {
    one.__name__: one for one in (re.sub, re.split, re.findall, re.finditer, re.search, re.match, re.fullmatch)
}
# Modules that a rehearsal may import if they are loaded already.
MODULES = frozenset(followed.CALLED) | frozenset(followed.INTERPRETED)
_TYPES: tuple[type, ...] = (
    *(str, Reply, SubCallError, bytes, list, tuple, range, dict, defaultdict, Counter, set, frozenset),
    *(re.Match, re.Pattern),
)
# By type, methods that change nothing, and methods that change what they are called on.
METHODS = {kind: followed.METHODS[_listed(kind)] for kind in _TYPES}
CHANGING = {kind: followed.CHANGING.get(_listed(kind), frozenset()) for kind in _TYPES}

# Where Python's own functions are found that these and the rehearsal itself call.
_PYTHON: tuple[Any, ...] = (
    *(builtins, collections, heapq, json, json.encoder, json.decoder, math, re, textwrap),
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
