"""Functions of the code's own in a rehearsal, and how a call's arguments are bound to their parameters."""

from dataclasses import dataclass
from typing import Any

from .machine import Frame
from .source import Function
from .unknown import Ended, Opaque


@dataclass(slots=True, eq=False, repr=False)
class Closure(Opaque):
    """A function of the code's own: its syntax, the frame it was made in, and the defaults of its parameters."""

    node: Function
    frame: Frame
    defaults: list[Any]
    keyword_defaults: dict[str, Any]


def prompt_and_model(arguments: list[Any], keywords: dict[str, Any]) -> tuple[Any, Any]:
    """The two arguments of a query. Raises Ended if the call does not fit it."""
    values = dict(zip(("prompt", "model"), arguments, strict=False)) | keywords
    if len(arguments) + len(keywords) != len(values) or not {"prompt"} <= set(values) <= {"prompt", "model"}:
        raise Ended
    return values["prompt"], values.get("model")


def bound(closure: Closure, arguments: list[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a function with their values in a call. Raises Ended if the call does not fit them."""
    declared = closure.node.args
    names = [one.arg for one in (*declared.posonlyargs, *declared.args)]
    values = dict(zip(names, arguments, strict=False))
    if len(arguments) > len(names) and declared.vararg is None:
        raise Ended
    if declared.vararg is not None:
        values[declared.vararg.arg] = tuple(arguments[len(names) :])
    rest: dict[str, Any] = {}
    by_name = {one.arg for one in (*declared.args, *declared.kwonlyargs)}
    for name, value in keywords.items():
        if name in by_name and name not in values:
            values[name] = value
        elif declared.kwarg is not None and name not in by_name:
            rest[name] = value
        else:
            raise Ended
    if declared.kwarg is not None:
        values[declared.kwarg.arg] = rest
    defaults = dict(zip(names[len(names) - len(closure.defaults) :], closure.defaults, strict=True))
    for name in (*names, *(one.arg for one in declared.kwonlyargs)):
        if name in values:
            continue
        if name in defaults:
            values[name] = defaults[name]
        elif name in closure.keyword_defaults:
            values[name] = closure.keyword_defaults[name]
        else:
            raise Ended
    return values
