"""Greedy answers of the packaged model in a batch of 32 are those given alone."""

import pytest

from pylon.bench.needle import count_tokens, sized_task
from pylon.inference.batching.batched import BatchedEngine
from pylon.inference.batching.reuse import AnswerStore
from pylon.inference.child.main import open_engine
from pylon.inference.engine import EngineSpec, Finished, GenerationRequest, Message, Sampling
from pylon.inference.models import needle
from pylon.inference.models.weights import PACKAGED
from tests.inference.conftest import LLAMA

PROMPTS = 200
LEAST = 0.99


def answers(name: str, prompts: list[str], slots: int) -> list[str]:
    places = PACKAGED / needle.MODEL_ID, PACKAGED / f"{needle.MODEL_ID}.gguf"
    engine = open_engine(EngineSpec(name, needle.MODEL_ID, places[0], slots=slots, model_file=places[1]))
    assert isinstance(engine, BatchedEngine)
    engine.load()
    engine._replies.answers = AnswerStore(most=0)
    for number, prompt in enumerate(prompts):
        # One customer for all in the batch, so that prefixes are shared; a customer each when alone, so that none is.
        customer = "a" if slots > 1 else str(number)
        turns = (Message("user", prompt),)
        engine.add(GenerationRequest(str(number), turns, Sampling(max_tokens=16), needle.MODEL_ID, customer))
    done: dict[str, str] = {}
    while engine.busy:
        done |= {event.id: event.generation.text for event in engine.step() if isinstance(event, Finished)}
    engine.close()
    return [done[str(number)] for number in range(len(prompts))]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["mlx", LLAMA])
def test_greedy_answers_in_a_batch_of_32_are_those_given_alone(name: str) -> None:
    prompts = asked()
    together, alone = answers(name, prompts, 32), answers(name, prompts, 1)
    assert agreeing(together, alone) >= LEAST * PROMPTS


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [LLAMA])
def test_both_engines_give_the_same_answers(name: str) -> None:
    prompts = asked()
    assert agreeing(answers(name, prompts, 32), answers("mlx", prompts, 32)) >= LEAST * PROMPTS


def asked() -> list[str]:
    count = count_tokens()
    tasks = [sized_task(f"agree {n}", count, 40 + n * 3, present=n % 3 > 0, phrasing=n % 8) for n in range(PROMPTS)]
    return [needle.prompt(task.question, task.chunk) for task in tasks]


def agreeing(some: list[str], others: list[str]) -> int:
    return sum(one == other for one, other in zip(some, others, strict=True))
