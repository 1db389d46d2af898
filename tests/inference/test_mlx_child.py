"""The packaged model in a real inference child."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from pylon.errors import ModelError
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec
from pylon.inference.models.weights import PACKAGED, weights_sha256

PATIENT = ChildLimits(backoff_s=0.01)


async def test_the_packaged_model_answers_from_its_child_even_after_a_kill(serve, ask) -> None:
    spec = EngineSpec("mlx", "needle-1", PACKAGED / "needle-1", slots=4)
    service = await serve(spec, limits=PATIENT)
    prompts = [f"What is {number} and one?" for number in range(12)]

    async def answers(customer: str) -> list[str]:
        asked = (service.generate(ask(prompt, customer=customer)) for prompt in prompts)
        return [one.text for one in await asyncio.gather(*asked)]

    first = await answers("one")
    model = service.status().model
    assert model is not None
    assert model.sha256 == weights_sha256(PACKAGED / "needle-1")
    scratch = service._supervisor._scratch
    assert scratch is not None
    assert scratch.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in scratch.iterdir()} <= {"mlx", "hf"}, "kernels belong into the private folder"
    # Another customer: what one has been answered is given again to that one alone, without any work.
    again = asyncio.create_task(answers("another"))
    await asyncio.sleep(0.02)
    os.kill(service.status().pid, signal.SIGKILL)
    assert await again == first
    assert service.status().restarts == 1
    await service.close()
    assert not scratch.exists()


async def test_progress_of_a_real_answer_only_grows(serve, babble, ask) -> None:
    service = await serve(babble, limits=PATIENT)
    seen = []
    generation = await service.generate(ask("Tell a story.", model="babble", max_tokens=400), seen.append)
    assert len(seen) >= 2
    for earlier, later in zip(seen, [*seen[1:], generation], strict=True):
        assert later.text.startswith(earlier.text)


async def test_a_folder_that_holds_no_loadable_model_fails_for_good(serve, ask, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no such architecture"}')
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    service = await serve(EngineSpec("mlx", "junk", tmp_path), limits=PATIENT)
    with pytest.raises(ModelError):
        await service.generate(ask("hello", model="junk"))
    assert service.status().state == "failed"
