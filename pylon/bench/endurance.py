"""`pylon bench endurance`: does memory stay flat over thousands of requests, and how large is the node's own process?

The inference child is measured while it answers; the node's process before it has answered anything, idle.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from pylon.bench.engine_work import random_words
from pylon.bench.idle import idle_node
from pylon.clock import SystemClock
from pylon.inference.engine import EngineSpec, GenerationRequest, Message, Sampling
from pylon.inference.models import needle
from pylon.inference.service import InferenceService
from pylon.inference.weights import PACKAGED

# What comes before is allowed to grow: caches fill, and libraries load what they need late.
WARM = 1_000
SAMPLES = 20
_IN_FLIGHT = 32
# Of these customers' prompts some repeat and some share heads, as in real runs.
_CUSTOMERS = 40


@dataclass(slots=True)
class _Sizes:
    child_mb: list[float] = field(default_factory=list)

    def take(self, pid: int | None) -> None:
        if pid is not None:
            self.child_mb.append(round(psutil.Process(pid).memory_info().rss / 1e6, 1))


async def endurance(requests: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Resident sizes in MB: of the child after WARM requests and at the end, and what loaded this process idle."""
    idle = await idle_node()
    spec = EngineSpec("mlx", needle.MODEL_ID, PACKAGED / needle.MODEL_ID, slots=_IN_FLIGHT)
    service = InferenceService(spec, SystemClock())
    await service.start()
    sizes = _Sizes()
    rng = random.Random(1)  # noqa: S311 - test data
    slots = asyncio.Semaphore(_IN_FLIGHT)

    async def one(number: int) -> None:
        async with slots:
            prompt = f"{random_words(rng, 40)} {random_words(rng, rng.randint(2, 60))}"
            turns = (Message("user", prompt),)
            sampling = Sampling(max_tokens=rng.randint(1, 12), temperature=rng.choice((0.0, 0.7)))
            customer = str(rng.randrange(_CUSTOMERS))
            await service.generate(GenerationRequest(str(number), turns, sampling, spec.model, customer))

    try:
        step = max(1, requests // SAMPLES)
        for start in range(0, requests, step):
            await asyncio.gather(*(one(number) for number in range(start, min(start + step, requests))))
            sizes.take(service.status().pid)
            say(f"{min(start + step, requests)} requests, child {sizes.child_mb[-1]} MB")
    finally:
        await service.close()
    warm = sizes.child_mb[min(len(sizes.child_mb) - 1, WARM // step)]
    return {
        "model": spec.model,
        "requests": requests,
        "child_mb_warm": warm,
        "child_mb_end": sizes.child_mb[-1],
        "growth": round(sizes.child_mb[-1] / warm - 1, 3),
        "child_mb": sizes.child_mb,
        **idle,
    }
