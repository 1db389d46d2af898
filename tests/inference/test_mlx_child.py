"""A real model in a real inference child."""

import asyncio
import os
import signal

from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.models.weights import weights_sha256
from tests.inference.children import TALKATIVE
from tests.waiting import until


async def test_a_real_model_answers_from_its_child_even_after_a_kill_and_its_answers_only_grow(
    serve, babble, ask
) -> None:
    service = await serve(babble, command=TALKATIVE, limits=ChildLimits(backoff_s=0.01))
    prompts = [f"What is {number} and one?" for number in range(12)]

    async def answers(customer: str) -> list[str]:
        asked = (service.generate(ask(prompt, model="babble", customer=customer)) for prompt in prompts)
        return [one.text for one in await asyncio.gather(*asked)]

    seen = []
    story = ask("Tell a story.", model="babble", max_tokens=200)
    first, whole = await asyncio.gather(answers("one"), service.generate(story, seen.append))
    assert len(seen) >= 2
    for earlier, later in zip(seen, [*seen[1:], whole], strict=True):
        assert later.text.startswith(earlier.text)
    model = service.status().model
    assert model is not None
    assert model.sha256 == weights_sha256(babble.model_dir)
    scratch = service._supervisor._scratch
    assert scratch is not None
    assert scratch.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in scratch.iterdir()} <= {"mlx", "hf"}, "kernels belong into the private folder"
    # Another customer: what one has been answered is given again to that one alone, without any work.
    pid = service.status().pid
    # It cannot be done before it is killed.
    os.kill(pid, signal.SIGSTOP)
    again = asyncio.create_task(answers("another"))
    await until(lambda: service.status().active == len(prompts))
    os.kill(pid, signal.SIGKILL)
    assert await again == first
    assert service.status().restarts == 1
    await service.close()
    assert not scratch.exists()
