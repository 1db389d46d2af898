"""Which JSON schemas are refused before they are compiled."""

import json

import pytest

from pylon.errors import ParameterError
from pylon.inference.schema import bounds as schema_bounds
from pylon.inference.schema.bounds import check

WORDS = {"type": "string", "pattern": "^[a-z]{3,20}$"}
PERSON = {
    "type": "object",
    "title": "Person",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 200},
        "born": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": r"^[A-Z]{2}-\d{4,10}$"},
        "id": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        "country": {"enum": [f"country {n}" for n in range(300)]},
        "price": {"type": "number", "multipleOf": 0.01, "minimum": 0},
        "friends": {"type": "array", "items": {"$ref": "#"}, "maxItems": 100},
        "nick": {"anyOf": [WORDS, {"type": "null"}], "default": None, "title": "Nick"},
        "home": {"allOf": [{"$ref": "#/$defs/place"}], "description": "where"},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"mail": {"type": "string", "format": "email"}}}},
}


def nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def strings(*patterns: str) -> list[dict[str, str]]:
    return [{"type": "string", "pattern": pattern} for pattern in patterns]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        PERSON,
        {"type": "object", "properties": {f"part {n}": PERSON for n in range(5)}},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(500)}},
        {"enum": [f"value {n}" for n in range(2_000)]},
        {"anyOf": [{**WORDS, "maxLength": n} for n in range(50)]},
        {"allOf": [*strings("a", "b"), {"type": "string", "format": "email"}]},
        {"type": "object", "properties": {"pattern": {"type": "string"}, "x-guidance": {}, "enum": {}}},
        nested(60),
    ],
)
def test_ordinary_schemas_pass(schema: dict[str, object]) -> None:
    check(json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"description": "x" * 32_768}, "bytes"),
        ({"examples": [0] * 10_001}, "values"),
        (nested(70), "deeper"),
        ({"properties": {f"p{n}": {} for n in range(501)}}, "properties"),
        ({"items": [{"properties": {f"p{n}": {} for n in range(300)}}] * 2}, "properties"),
        ({"enum": list(range(2_001))}, "enum"),
        ({"anyOf": strings(*map(str, range(51)))}, "patterns"),
        ({"patternProperties": {f"^{n}$": {} for n in range(51)}}, "patterns"),
        ({"pattern": "a" * 257}, "pattern"),
        ({"pattern": "a{2001}"}, "pattern"),
        ({"pattern": "^((((a{100}){100}){100}){100})$"}, "pattern"),
        ({"pattern": r"(?:[\]{]|\p{L}{2}){700}(x{40,}y){20}"}, "pattern"),
        ({"pattern": "(?x)(a{ 1000 }){ 1000 }"}, "flag"),
        ({"allOf": strings("a", "b", "c", "d")}, "lay"),
        ({"anyOf": strings("a", "b"), "pattern": "c", "format": "email"}, "lay"),
        ({"$ref": "#/$defs/a", "pattern": "x", "$defs": {"a": {"anyOf": strings("a", "b", "c")}}}, "lay"),
        ({"anyOf": strings("a", "b"), "oneOf": strings("c", "d")}, "lay"),
        ({"patternProperties": {name: {} for name in "abcd"}}, "lay"),
        ({"allOf": [{"enum": list(range(1_000))}] * 2}, "lay"),
        ({"type": "integer", "multipleOf": 99_991}, "multipleOf"),
        ({"anyOf": [{"multipleOf": 997}, {"multipleOf": 0.991}]}, "multipleOf"),
        ({"x-guidance": {"item_separator": "a*"}}, "x-guidance"),
    ],
)
def test_what_would_hold_up_others_is_refused_and_the_reason_told(schema: dict[str, object], why: str) -> None:
    with pytest.raises(ParameterError, match=why):
        check(json.dumps(schema))


@pytest.mark.parametrize("schema", ["no JSON", "[1]", '"text"', '{"a":' * 2_000, "\ud800"])
def test_what_is_no_object_is_refused(schema: str) -> None:
    with pytest.raises(ParameterError, match="no JSON object"):
        check(schema)


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("abc", 3),
        ("(ab){3}", 6),
        ("a{2,5}", 5),
        ("[a-z]{4,}", 4),
        (r"\d{4}-\d{2}", 7),
        ("((a{3}|b){2}c)+", 9),
        ("(){9}", 9),
    ],
)
def test_a_patterns_size_is_that_with_its_repetitions_written_out(pattern: str, size: int) -> None:
    assert schema_bounds._size(pattern) == size
