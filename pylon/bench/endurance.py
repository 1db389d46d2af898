"""`pylon bench endurance`: whether memory stays flat over thousands of requests, and how large an idle node is.

The inference child is measured while it answers; the node's own process while idle, before it has answered anything.
"""

import asyncio
import itertools
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import psutil

from pylon.bench.engine_work import random_words
from pylon.bench.idle import idle_node
from pylon.clock import SystemClock
from pylon.errors import EngineFailedError
from pylon.inference.engine import EngineSpec, GenerationRequest, Message, Sampling
from pylon.inference.models import needle
from pylon.inference.models.weights import PACKAGED
from pylon.inference.service import InferenceService

# Requests before memory counts: until then caches fill, and libraries load late.
WARM = 1_000
SAMPLES = 20
_IN_FLIGHT = 32
# As in real runs, each customer asks its few questions about ever new texts, and repeats a share of its requests.
_CUSTOMERS, _QUESTIONS = 40, 3
_AGAIN = 0.05


async def endurance(requests: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Resident sizes in MB: of the child while it answers, and of a node's processes idle. Raises EngineError."""
    idle = await idle_node()
    spec = EngineSpec("mlx", needle.MODEL_ID, PACKAGED / needle.MODEL_ID, slots=_IN_FLIGHT)
    service = InferenceService(spec, SystemClock())
    await service.start()
    slots = asyncio.Semaphore(_IN_FLIGHT)
    asking = _requests(spec.model)
    sizes: list[float] = []

    async def one() -> None:
        async with slots:
            await service.generate(next(asking))

    try:
        step = max(1, requests // SAMPLES)
        for start in range(0, requests, step):
            await asyncio.gather(*(one() for _ in range(min(step, requests - start))))
            sizes.append(_mb(service))
            say(f"{min(start + step, requests)} requests, child {sizes[-1]} MB")
    finally:
        await service.close()
    return {
        "model": spec.model,
        "requests": requests,
        "growth": growth(sizes, WARM // step),
        "child_mb": sizes,
        **idle,
    }


def growth(sizes: Sequence[float], warm: int) -> float:
    """By what share a process is larger in the last third of its samples than in the first, after `warm` samples.

    Medians of the thirds are compared: what libraries keep for reuse varies by a tenth from sample to sample.
    """
    after = sizes[warm:] or sizes[-1:]
    third = -(-len(after) // 3)
    return round(statistics.median(after[-third:]) / statistics.median(after[:third]) - 1, 3)


def _requests(model: str) -> Iterator[GenerationRequest]:
    rng = random.Random(1)  # noqa: S311 - test data
    questions = {str(name): [random_words(rng, 40) for _ in range(_QUESTIONS)] for name in range(_CUSTOMERS)}
    last: dict[str, GenerationRequest] = {}
    for number in itertools.count():
        customer = str(rng.randrange(_CUSTOMERS))
        if customer not in last or rng.random() >= _AGAIN:
            prompt = f"{rng.choice(questions[customer])} {random_words(rng, rng.randint(2, 60))}"
            sampling = Sampling(max_tokens=rng.randint(1, 12), temperature=rng.choice((0.0, 0.7)))
            last[customer] = GenerationRequest("", (Message("user", prompt),), sampling, model, customer)
        yield replace(last[customer], id=str(number))


def _mb(service: InferenceService) -> float:
    pid = service.status().pid
    if pid is None:
        raise EngineFailedError("the engine ended amid the measurement")
    return round(psutil.Process(pid).memory_info().rss / 1e6, 1)
