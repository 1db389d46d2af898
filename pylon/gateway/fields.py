"""Fields of a request's JSON, each read as what it is. None stands for one that is not there; all raise `Problem`."""

import math
from collections.abc import Mapping
from typing import Any

from pylon.gateway.problems import Problem


def refuse(name: str, must: str) -> Problem:
    """What is said of a value that does not fit."""
    return Problem(400, "invalid_value", f"{name} must {must}", param=name)


def text(given: Mapping[str, Any], name: str, *, low: int, high: int) -> str | None:
    """Text of so many characters."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not low <= len(value) <= high:
        raise refuse(name, f"be text of {low} to {high} characters")
    return value


def whole(given: Mapping[str, Any], name: str, low: int, high: int, where: str = "") -> int | None:
    """A whole number. `where` is what it is called to whoever sent it."""
    value = given.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise refuse(where or name, f"be a whole number from {low} to {high}")
    return value


def number(given: Mapping[str, Any], name: str, low: float, high: float, where: str = "") -> float | None:
    """A number."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refuse(where or name, f"be a number from {low:g} to {high:g}")
    if not low <= value <= high:
        raise refuse(where or name, f"be a number from {low:g} to {high:g}")
    return float(value)


def flag(given: Mapping[str, Any], name: str, where: str = "") -> bool:
    """True or false; false where it is not there."""
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise refuse(where or name, "be true or false")
    return bool(value)
