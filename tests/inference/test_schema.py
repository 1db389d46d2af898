"""Answers that follow a JSON schema, by a model with random weights: nothing but the schema makes them JSON."""

import json
from collections.abc import Iterator

import pytest

from pylon.errors import ParameterError
from pylon.inference.child.main import open_engine
from pylon.inference.engine import Engine, Finished, Generation
from tests.inference.conftest import LLAMA

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
)


@pytest.fixture(params=["mlx", LLAMA])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    spec = request.getfixturevalue("babble" if request.param == "mlx" else "babble_gguf")
    made = open_engine(spec)
    made.load()
    yield made
    made.close()


def run(engine: Engine, *requests) -> list[Generation]:
    for request in requests:
        engine.add(request)
    done = {}
    while engine.busy:
        done |= {event.id: event.generation for event in engine.step() if isinstance(event, Finished)}
    return [done[request.id] for request in requests]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_follows_its_schema_beside_others_that_follow_none(engine: Engine, ask, temperature: float) -> None:
    guided = [
        ask(f"Colour {n}?", key=f"s{n}", schema=SCHEMA, max_tokens=60, temperature=temperature) for n in range(3)
    ]
    free = ask("Tell a story.", key="free", max_tokens=20)
    *answers, story = run(engine, *guided, free)
    for answer in answers:
        value = json.loads(answer.text)
        assert set(value) == {"colour", "count"}
        assert value["colour"] in ("red", "green")
        assert 0 <= value["count"] <= 99
        assert answer.finish == "stop"
    assert story.text == run(engine, ask("Tell a story.", customer="b", max_tokens=20))[0].text


@pytest.mark.parametrize("schema", ["no JSON", "[1]", '{"type": "no such type"}', '{"$ref": "https://example.com"}'])
def test_what_is_no_schema_is_refused_before_anything_is_computed(engine: Engine, ask, schema: str) -> None:
    with pytest.raises(ParameterError, match="schema"):
        engine.add(ask("Colour?", schema=schema))
    assert not engine.busy
