"""Reads fields of a request's JSON by type. An absent field is None; all raise `Problem` (400) for a bad value."""

from collections.abc import Mapping
from typing import Any

from pylon.gateway.problems import Problem


def refuse(name: str, must: str) -> Problem:
    """The error for a value that is not allowed; `must` says what it must be."""
    return Problem(400, "invalid_value", f"{name} must {must}", param=name)


def text(given: Mapping[str, Any], name: str, *, low: int, high: int) -> str | None:
    """Text of `low` to `high` characters."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not low <= len(value) <= high:
        raise refuse(name, f"be text of {low} to {high} characters")
    return value


def whole(given: Mapping[str, Any], name: str, low: int, high: int, where: str = "") -> int | None:
    """A whole number from `low` to `high`. `where` is its name in the error, if not `name`."""
    value = given.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise refuse(where or name, f"be a whole number from {low} to {high}")
    return value


def number(given: Mapping[str, Any], name: str, low: float, high: float, where: str = "") -> float | None:
    """A finite number from `low` to `high`. `where` is its name in the error, if not `name`."""
    value = given.get(name)
    if value is None:
        return None
    # Neither an infinity nor NaN is in the range.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise refuse(where or name, f"be a number from {low:g} to {high:g}")
    return float(value)


def flag(given: Mapping[str, Any], name: str, where: str = "") -> bool:
    """True or false; false if absent."""
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise refuse(where or name, "be true or false")
    return bool(value)
