"""Checks a JSON schema's size before it is compiled, to bound what its answers cost those in the same batch.

Every object is looked at as if it were a schema, since a `$ref` may lead into any of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from pylon.errors import ParameterError

MOST_BYTES = 32_768
MOST_VALUES = 10_000  # objects, arrays, and all their members
MOST_NESTED = 64
MOST_PROPERTIES = 500
MOST_CHOICES = 2_000  # in one enum
MOST_PATTERNS = 50
MOST_PATTERN_CHARS = 256
MOST_PATTERN_SIZE = 2_000  # characters of a pattern whose repetitions are written out
# Limits where several schemas apply to one value: two patterns that must both match are compiled into one that may be
# as large as their product.
MOST_COMBINED = 3
MOST_VALUES_COMBINED = 600  # each choice of one is tried with each of the other
# A multiple of n is recognized by an automaton of n states, multiples of several numbers by one of their product.
MOST_MULTIPLES = 10_000

_COMBINING = ("allOf", "anyOf", "oneOf", "$ref")
# Keys that do not restrict the value, and so do not combine with `anyOf` and the like.
_NOTES = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
) | frozenset({"$comment", "$schema", "$id", "id", "$anchor", "$defs", "definitions"})
# The flag x allows blanks and comments in patterns, which would hide repetitions from `_size`. JSON schemas have no
# flags.
_FLAGS = re.compile(r"\(\?[a-zA-Z]*x")
_PIECES = re.compile(r"\\[pPxuU]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,(\d*))?\}|.", re.DOTALL)


@dataclass(slots=True)
class _Found:
    """The counts of a schema. `combined`: several schemas apply to one value."""

    values: int = 0
    properties: int = 0
    patterns: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)  # patterns and formats
    multiples: set[int] = field(default_factory=set)
    combined: bool = False


def check(schema: str) -> None:
    """Raises ParameterError if it is not a JSON object, or larger than any schema needs to be."""
    if len(schema.encode(errors="surrogatepass")) > MOST_BYTES:
        raise _too_much(f"more than {MOST_BYTES:,} bytes")
    try:
        top = orjson.loads(schema)
    except orjson.JSONDecodeError as error:
        raise ParameterError(f"the JSON schema is no JSON object: {str(error)[:300]}") from None
    if not isinstance(top, dict):
        raise ParameterError("the JSON schema is no JSON object")
    if "x-guidance" in top:
        # This key would set options of the compiler.
        raise ParameterError("the JSON schema cannot be followed: it has x-guidance")
    found = _Found()
    for schema_object in _objects(top, found):
        _look_at(schema_object, found)
    if found.properties > MOST_PROPERTIES:
        raise _too_much(f"more than {MOST_PROPERTIES} properties")
    if len(found.patterns) > MOST_PATTERNS:
        raise _too_much(f"more than {MOST_PATTERNS} patterns")
    if found.combined and (len(found.texts) > MOST_COMBINED or found.values > MOST_VALUES_COMBINED):
        raise _too_much(
            f"more than {MOST_COMBINED} different patterns and formats, or {MOST_VALUES_COMBINED:,} values, where "
            "allOf, anyOf, oneOf, $ref or patternProperties lay schemas over each other"
        )
    product = 1
    for multiple in found.multiples:
        product *= multiple
    if product > MOST_MULTIPLES:
        raise _too_much(f"multipleOf of numbers whose digits, multiplied, pass {MOST_MULTIPLES:,}")
    for pattern in found.patterns:
        if _FLAGS.search(pattern):
            raise ParameterError("the JSON schema cannot be followed: a pattern sets the flag x")
        if len(pattern) > MOST_PATTERN_CHARS or _size(pattern) > MOST_PATTERN_SIZE:
            raise _too_much(
                f"a pattern of more than {MOST_PATTERN_CHARS} characters, or {MOST_PATTERN_SIZE:,} with its "
                "repetitions written out"
            )


def _too_much(what: str) -> ParameterError:
    return ParameterError(f"the JSON schema is too large to be followed here: {what}", hint="Ask for less at once.")


def _objects(top: dict[str, Any], found: _Found) -> Iterator[dict[str, Any]]:
    level: list[Any] = [top]
    for _ in range(MOST_NESTED):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                yield value
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        if not inner:
            return
        found.values += len(inner)
        if found.values > MOST_VALUES:
            raise _too_much(f"more than {MOST_VALUES:,} values")
        level = inner
    raise _too_much(f"nested deeper than {MOST_NESTED}")


def _look_at(schema: dict[str, Any], found: _Found) -> None:
    """Counts what makes one object of the schema costly to compile. Raises ParameterError."""
    if isinstance(properties := schema.get("properties"), dict):
        found.properties += len(properties)
    if isinstance(choices := schema.get("enum"), list) and len(choices) > MOST_CHOICES:
        raise _too_much(f"an enum of more than {MOST_CHOICES:,}")
    patterns = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
    formats = [schema["format"]] if isinstance(schema.get("format"), str) else []
    named = schema.get("patternProperties")
    if isinstance(named, dict):
        patterns += named
        found.combined |= len(named) > 1 or "properties" in schema
    found.patterns += patterns
    found.texts |= {*patterns, *formats}
    multiple = schema.get("multipleOf")
    if isinstance(multiple, int | float) and not isinstance(multiple, bool):
        found.multiples.add(_coefficient(multiple))
    found.combined |= bool(patterns and formats) or _combines(schema)


def _combines(schema: dict[str, Any]) -> bool:
    """Whether two schemas apply to the same value."""
    combining = [name for name in _COMBINING if name in schema]
    if not combining:
        return False
    every = schema.get("allOf")
    if len(combining) > 1 or (isinstance(every, list) and len(every) > 1):
        return True
    return any(name not in _NOTES and name != combining[0] for name in schema)


def _coefficient(number: float) -> int:
    """The digits of a number, without the zeros that end it: 25 for 0.25, 1 for 100."""
    digits = "".join(map(str, Decimal(str(number)).as_tuple().digits)).strip("0")
    return int(digits or "1")


def _size(pattern: str) -> int:
    """About the length of a regular expression when its repetitions are written out."""
    # The size of each open group, and of the last element, which a repetition would repeat.
    sizes, last = [0], 0
    for piece in _PIECES.finditer(pattern):
        text = piece[0]
        if text == "(":
            sizes.append(0)
            last = 0
        elif text == ")" and len(sizes) > 1:
            last = max(sizes.pop(), 1)
            sizes[-1] += last
        elif piece[1] is not None:
            times = max(int(piece[2] or piece[1]), 1)
            sizes[-1] += last * (times - 1)
            last *= times
        elif text not in "*+?|":
            last = 1
            sizes[-1] += 1
    return sum(sizes)
