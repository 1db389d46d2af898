"""Greedy answers of the packaged model in a batch of 32 are those given alone."""

import pytest

from pylon.bench.needle import count_tokens, sized_task
from pylon.inference.engine import EngineSpec, Finished, GenerationRequest, Message, Sampling
from pylon.inference.mlx import MlxEngine
from pylon.inference.models import needle
from pylon.inference.reuse import AnswerStore
from pylon.inference.weights import PACKAGED

PROMPTS = 200
LEAST = 0.99


def answers(prompts: list[str], slots: int) -> list[str]:
    engine = MlxEngine(EngineSpec("mlx", needle.MODEL_ID, PACKAGED / needle.MODEL_ID, slots=slots))
    engine.load()
    engine._answers = AnswerStore(most=0)
    for number, prompt in enumerate(prompts):
        # One customer for all in the batch, so that heads are shared; a customer each when alone, so that none is.
        customer = "a" if slots > 1 else str(number)
        turns = (Message("user", prompt),)
        engine.add(GenerationRequest(str(number), turns, Sampling(max_tokens=16), needle.MODEL_ID, customer))
    done: dict[str, str] = {}
    while engine.busy:
        done |= {event.id: event.generation.text for event in engine.step() if isinstance(event, Finished)}
    return [done[str(number)] for number in range(len(prompts))]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_greedy_answers_in_a_batch_of_32_are_those_given_alone() -> None:
    count = count_tokens()
    tasks = [sized_task(f"agree {n}", count, 40 + n * 3, present=n % 3 > 0, phrasing=n % 8) for n in range(PROMPTS)]
    prompts = [needle.prompt(task.question, task.chunk) for task in tasks]
    together, alone = answers(prompts, 32), answers(prompts, 1)
    same = sum(one == other for one, other in zip(together, alone, strict=True))
    assert same >= LEAST * PROMPTS
