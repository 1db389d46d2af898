"""Whether a JSON value follows a schema, told in a time that grows with their sizes only.

jsonschema compares the items of an array pair by pair where they are objects, and matches patterns by Python's `re`,
whose time may double with each character. Here items are compared by their JSON, and patterns are matched by an
engine that takes linear time. What cannot be told in such a time is not checked.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

# Rust's engine takes these for operations on sets of characters, and all others for characters.
_SET_OPERATION = re.compile(r"\[[^\]]*(?:&&|--|~~)")


@functools.lru_cache(maxsize=64)
def validator_of(schema: bytes) -> Any:
    """The jsonschema validator of a schema in JSON."""
    # Imported here: it takes half a second, and is needed for schemas only.
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    checks: dict[str, Callable[..., Any]] = {
        "uniqueItems": _unique_items,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    if b'"patternProperties"' in schema:
        # It matches their patterns by `re`.
        checks["unevaluatedProperties"] = _unchecked
    bounded = validators.extend(Draft202012Validator, checks)
    loaded = orjson.loads(schema)
    # A reference to a schema that names its own dialect would lead to the unbounded validator of that.
    loaded.pop("$schema", None)
    # With an empty registry it fetches nothing that a schema refers to.
    return bounded(loaded, registry=Registry())


def _unique_items(validator: Any, unique: Any, value: Any, _: Any) -> Iterator[Any]:
    if unique and validator.is_type(value, "array"):
        # As JSON, 1 and 1.0 are not the same: that one of them comes again is let pass.
        seen = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in value}
        if len(seen) < len(value):
            yield _error("an item comes twice")


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[Any]:
    if validator.is_type(value, "string") and not _may_match(pattern, value):
        yield _error("a text does not match its pattern")


def _pattern_properties(validator: Any, patterns: dict[str, Any], value: Any, _: Any) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    for pattern, schema in patterns.items():
        # Names that may or may not match cannot be held to a schema.
        if (matcher := _matcher(pattern)) is not None:
            for name in filter(matcher, value):
                yield from validator.descend(value[name], schema)


def _additional_properties(validator: Any, schema: Any, value: Any, beside: dict[str, Any]) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    properties, patterns = beside.get("properties", {}), beside.get("patternProperties", {})
    for name in value:
        if name not in properties and not any(_may_match(pattern, name) for pattern in patterns):
            yield from validator.descend(value[name], schema)


def _unchecked(*_: Any) -> tuple[()]:
    return ()


def _may_match(pattern: str, text: str) -> bool:
    matcher = _matcher(pattern)
    return matcher is None or matcher(text)


@functools.lru_cache(maxsize=256)
def _matcher(pattern: str) -> Callable[[str], bool] | None:
    """Whether a text holds a match of this pattern; None for a pattern that takes more than linear time, as one with
    look-around or a back-reference does."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    if _SET_OPERATION.search(pattern):
        return None
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")).isinstance_python
    except SchemaError:
        return None


def _error(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)
