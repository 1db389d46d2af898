"""Schemas that the compiler does not finish with."""

import json
from unittest.mock import Mock

import pytest
from llguidance import LLTokenizer

from pylon.errors import ParameterError
from pylon.inference.batching.request import BatchedRequest
from pylon.inference.schema import bounds as schema_bounds
from pylon.inference.schema import trial as schema_trial
from pylon.inference.schema.guide import SchemaCompiler

# Each would take minutes and gigabytes.
ENDLESS = {
    "patterns": {"allOf": [{"type": "string", "pattern": f".*{chr(97 + n % 26)}.{{{n}}}"} for n in range(60)]},
    "multiples": {"anyOf": [{"type": "integer", "multipleOf": 997 - n} for n in range(50)]},
}


@pytest.fixture
def compiler() -> SchemaCompiler:
    return SchemaCompiler(lambda: LLTokenizer("byte"), [0])


@pytest.mark.parametrize("name", ENDLESS)
def test_it_is_refused_before_it_is_compiled(compiler: SchemaCompiler, name: str, monkeypatch) -> None:
    monkeypatch.setattr(schema_trial, "ends", lambda schema: pytest.fail("it was compiled"))
    with pytest.raises(ParameterError, match="too large"):
        compiler.guide(json.dumps(ENDLESS[name]))


def test_what_passes_the_bounds_and_yet_never_ends_is_compiled_in_a_process_that_is_ended(
    compiler: SchemaCompiler, monkeypatch
) -> None:
    monkeypatch.setattr(schema_bounds, "check", lambda schema: None)
    monkeypatch.setattr(schema_trial, "WALL_S", 5)
    with pytest.raises(ParameterError, match="too long"):
        compiler.guide(json.dumps(ENDLESS["patterns"]))
    monkeypatch.setattr(schema_trial, "ends", lambda schema: pytest.fail("it was compiled again"))
    with pytest.raises(ParameterError, match="too long"):
        compiler.guide(json.dumps(ENDLESS["patterns"]))


def test_a_schema_is_compiled_once_and_each_answer_has_a_guide_of_its_own(
    compiler: SchemaCompiler, monkeypatch
) -> None:
    schema = json.dumps({"enum": ["ab", "cd"]})
    first = compiler.guide(schema)
    monkeypatch.setattr(schema_trial, "ends", lambda schema: pytest.fail("it was compiled again"))
    second = compiler.guide(schema)
    first.allowed([ord('"'), ord("a")], 256)
    assert [chr(token) for token in first.allowed([], 256).nonzero()[0]] == ["b"]
    for fresh in (second, first.again()):
        assert [chr(token) for token in fresh.allowed([ord('"')], 256).nonzero()[0]] == ["a", "c"]
    assert not first.fault


def test_a_request_that_was_put_back_begins_again_without_compiling(compiler: SchemaCompiler, ask) -> None:
    model = Mock(schemas=compiler)
    asked = BatchedRequest(ask("Letters?", schema='{"enum": ["ab"]}'), [1], None)
    asked.begin(model)
    asked.guide.allowed([ord('"'), ord("a")], 256)
    model.schemas = None
    asked.begin(model)
    assert [chr(token) for token in asked.guide.allowed([], 256).nonzero()[0]] == ['"']
