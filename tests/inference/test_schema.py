"""Answers that follow a JSON schema, by a model with random weights: nothing but the schema makes them JSON."""

import json

import pytest

from pylon.errors import ParameterError
from pylon.inference.engine import EngineSpec, Finished, Generation
from pylon.inference.mlx import MlxEngine

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


@pytest.fixture
def mlx(babble: EngineSpec) -> MlxEngine:
    engine = MlxEngine(babble)
    engine.load()
    return engine


def run(mlx: MlxEngine, *requests) -> list[Generation]:
    for request in requests:
        mlx.add(request)
    done = {}
    while mlx.busy:
        done |= {event.id: event.generation for event in mlx.step() if isinstance(event, Finished)}
    return [done[request.id] for request in requests]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_follows_its_schema_beside_others_that_follow_none(mlx: MlxEngine, ask, temperature: float) -> None:
    guided = [
        ask(f"Colour {n}?", key=f"s{n}", schema=SCHEMA, max_tokens=60, temperature=temperature) for n in range(3)
    ]
    free = ask("Tell a story.", key="free", max_tokens=20)
    *answers, story = run(mlx, *guided, free)
    for answer in answers:
        value = json.loads(answer.text)
        assert set(value) == {"colour", "count"}
        assert value["colour"] in ("red", "green")
        assert 0 <= value["count"] <= 99
        assert answer.finish == "stop"
    assert story.text == run(mlx, ask("Tell a story.", customer="b", max_tokens=20))[0].text


@pytest.mark.parametrize("schema", ["no JSON", "[1]", '{"type": "no such type"}', '{"$ref": "https://example.com"}'])
def test_what_is_no_schema_is_refused_before_anything_is_computed(mlx: MlxEngine, ask, schema: str) -> None:
    with pytest.raises(ParameterError, match="schema"):
        mlx.add(ask("Colour?", schema=schema))
    assert not mlx.busy
