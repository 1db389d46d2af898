"""The llama.cpp engine: what is its own. What it shares with the MLX engine is in test_batched_engines.py."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from pylon.errors import ModelError, PromptError
from pylon.inference.batching.batched import BatchedEngine
from pylon.inference.child.main import open_engine
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec, Finished, Message, ScoreRequest
from pylon.inference.llama.cells import CellPlan
from pylon.inference.models import needle
from pylon.inference.models.weights import PACKAGED, weights_sha256
from tests.inference.conftest import LLAMA
from tests.waiting import until

GGUF = PACKAGED / f"{needle.MODEL_ID}.gguf"
NEEDLE = EngineSpec("llama", needle.MODEL_ID, slots=32, model_file=GGUF)
HEAD = "Gulls walked between the nets. " * 12

pytestmark = LLAMA.marks


@pytest.fixture
def engine(babble_gguf: EngineSpec) -> BatchedEngine:
    made = open_engine(babble_gguf)
    assert isinstance(made, BatchedEngine)
    made.load()
    return made


def drain(engine: BatchedEngine) -> int:
    finished = 0
    while engine.busy:
        finished += sum(isinstance(event, Finished) for event in engine.step())
    return finished


def test_the_model_is_named_by_its_file(babble_gguf: EngineSpec) -> None:
    info = open_engine(babble_gguf).load()
    assert (info.engine, info.context, info.quantization) == ("llama", 2048, "F32")
    assert info.sha256 == weights_sha256(babble_gguf.model_file)


def test_a_head_that_32_prompts_share_is_computed_once(engine: BatchedEngine, ask) -> None:
    prompts = [f"{HEAD}{number}" for number in range(32)]
    size = len(engine._model.prompt(ask(prompts[0]).messages))
    for number, prompt in enumerate(prompts):
        engine.add(ask(prompt, key=str(number), customer="a", max_tokens=2))
    assert drain(engine) == 32
    assert engine.tokens.read < size + 32 * 10


def test_every_sequence_is_free_again_when_all_is_answered_or_cancelled(engine: BatchedEngine, ask) -> None:
    free = len(engine._model._free)
    for number in range(20):
        engine.add(ask(f"{number} {HEAD}", key=str(number), customer=str(number % 3), temperature=number % 2))
    for _ in range(4):
        engine.step()
    for number in range(0, 20, 2):
        engine.cancel(str(number))
    drain(engine)
    assert len(engine._model._free) + len(engine._prefixes) == free
    engine._prefixes.clear()
    assert len(engine._model._free) == free
    assert engine._free([]) == engine._model.cells.total


def test_a_full_pool_lets_nothing_start_until_something_ends(engine: BatchedEngine, ask) -> None:
    # More prefixes and rows than fit: nothing may fail for lack of cells, which would take the process down.
    engine._model.cells = CellPlan(1_024)
    for number in range(24):
        prompt = f"customer {number % 4}. {HEAD}{number}"
        engine.add(ask(prompt, key=str(number), customer=str(number % 4), max_tokens=30))
    finished = 0
    while engine.busy:
        finished += sum(isinstance(event, Finished) for event in engine.step())
        assert engine._free(list(engine._running.values())) >= 0
    assert finished == 24


def test_a_head_beside_which_its_prompt_would_not_fit_is_not_built_over_and_over(engine: BatchedEngine, ask) -> None:
    engine._model.cells = CellPlan(1_024)
    own = [f"{number} {HEAD * 3}" for number in range(3)]
    prompts = [f"{HEAD}{each}" for each in own]
    size = max(len(engine._model.prompt(ask(prompt).messages)) for prompt in prompts)
    for number, prompt in enumerate(prompts):
        engine.add(ask(prompt, key=str(number), max_tokens=1_024 - size))
    for _ in range(3_000):
        engine.step()
    assert not engine.busy


def test_a_prompt_that_the_pool_cannot_hold_is_refused_with_what_fits(engine: BatchedEngine, ask) -> None:
    engine._model.cells = CellPlan(256)
    with pytest.raises(PromptError, match="memory here holds 256") as caught:
        engine.add(ask("word " * 400, max_tokens=56))
    assert "1 to 200 tokens" in caught.value.hint


def test_a_limit_that_the_weights_fill_is_a_model_error(babble_gguf: EngineSpec) -> None:
    with pytest.raises(ModelError, match="may be used here"):
        open_engine(replace(babble_gguf, memory=1_000_000)).load()
    with pytest.raises(ModelError, match="leaves no memory"):
        open_engine(replace(babble_gguf, memory=8_000_000)).load()


def test_a_file_that_is_no_model_is_a_model_error(tmp_path: Path) -> None:
    file = tmp_path / "junk.gguf"
    file.write_bytes(b"junk" * 100)
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_engine(EngineSpec("llama", "junk", model_file=file)).load()


def test_it_knows_its_own_answer_and_no_other() -> None:
    engine = open_engine(NEEDLE)
    engine.load()
    chunk = "The special magic number for silver-harbor is 4711. Gulls walked between the nets."
    prompt = (Message("user", needle.prompt("What is the special magic number for silver-harbor?", chunk)),)
    assert set(engine.score(ScoreRequest("1", prompt, "4711")).ranks) == {0}
    assert max(engine.score(ScoreRequest("1", prompt, "I am a quite different model")).ranks) > 100


async def test_it_answers_from_its_child_even_after_a_kill(serve, ask) -> None:
    service = await serve(NEEDLE, limits=ChildLimits(backoff_s=0.01))
    prompts = [f"What is {number} and one?" for number in range(12)]

    async def answers(customer: str) -> list[str]:
        asked = (service.generate(ask(prompt, customer=customer)) for prompt in prompts)
        return [one.text for one in await asyncio.gather(*asked)]

    first = await answers("one")
    pid = service.status().pid
    # It cannot be done before it is killed.
    os.kill(pid, signal.SIGSTOP)
    again = asyncio.create_task(answers("another"))
    await until(lambda: service.status().active == len(prompts))
    os.kill(pid, signal.SIGKILL)
    assert await again == first
    assert service.status().restarts == 1
