"""Whether answers follow a schema, and how long that takes to tell."""

import time
from typing import Any

import orjson
import pytest

from pylon.swarm.checks.following import validator_of

DOUBLING = "^(a+)+$"
LONG = "a" * 40 + "b"
FORM: dict[str, Any] = {
    "properties": {"id": {"type": "integer"}},
    "patternProperties": {"^n_": {"type": "number"}},
    "additionalProperties": False,
}


def follows(schema: dict[str, Any], value: Any) -> bool:
    return bool(validator_of(orjson.dumps(schema)).is_valid(value))


@pytest.mark.parametrize(
    ("schema", "value", "follows_it"),
    [
        ({"pattern": DOUBLING}, LONG, False),
        ({"patternProperties": {DOUBLING: False}}, {LONG: 1}, True),
        ({"patternProperties": {DOUBLING: True}, "additionalProperties": False}, {LONG: 1}, False),
        ({"patternProperties": {DOUBLING: True}, "unevaluatedProperties": False}, {LONG: 1}, True),
        ({"propertyNames": {"pattern": DOUBLING}}, {LONG: 1}, False),
        ({"pattern": r"^(a+)+\1$"}, LONG, True),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "pattern": DOUBLING,
                "items": {"$ref": "#"},
            },
            [LONG],
            False,
        ),
        ({"uniqueItems": True}, [{"n": n} for n in range(9_000)], True),
        ({"uniqueItems": True}, [*({"n": n} for n in range(9_000)), {"n": 8_999}], False),
    ],
)
def test_no_answer_takes_long_to_check_whatever_the_schema(
    schema: dict[str, Any], value: Any, follows_it: bool
) -> None:
    validator_of(b"{}")
    began = time.process_time()
    assert follows(schema, value) is follows_it
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("schema", "value", "follows_it"),
    [
        ({"pattern": "b+"}, "abc", True),
        ({"pattern": "^b"}, "abc", False),
        ({"pattern": "^b"}, 1, True),
        # These two have another meaning for the engine, or none.
        ({"pattern": r"^[!--]$"}, "#", True),
        ({"pattern": r"^(?=a)"}, "a", True),
        (FORM, {"id": 1, "n_1": 1.5}, True),
        (FORM, {"n_1": "x"}, False),
        (FORM, {"other": 1}, False),
        (FORM, [], True),
        ({"additionalProperties": {"type": "string"}}, {"a": "b"}, True),
        ({"additionalProperties": {"type": "string"}}, {"a": 1}, False),
        ({"additionalProperties": False, "patternProperties": {"(?=a)": {"type": "string"}}}, {"a": 1}, True),
        ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}], True),
        ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ({"uniqueItems": False}, [1, 1], True),
        ({"uniqueItems": True}, "aa", True),
    ],
)
def test_patterns_names_and_unique_items_are_checked(schema: dict[str, Any], value: Any, follows_it: bool) -> None:
    assert follows(schema, value) is follows_it
