"""`pylon bench engine`: answers per second of this machine's engine, with 1 to 32 requests in flight."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psutil
from tokenizers import Tokenizer

from pylon.bench.engine_load import Load, Tokens, load
from pylon.bench.engine_peer import cpu_s
from pylon.bench.engine_work import SHAPES, Shape, prompts
from pylon.bench.gguf import gguf_counter
from pylon.clock import SystemClock
from pylon.errors import EngineFailedError, UsageError
from pylon.inference.child.loop import BEAT_S
from pylon.inference.child.messages import Beat
from pylon.inference.engine import EngineSpec, GenerationRequest, Message, ModelInfo, Sampling
from pylon.inference.service import InferenceService

WIDTHS = (1, 2, 4, 8, 16, 32)
IN_FLIGHT = 32
# Prompts of each shape that are timed alone, to say how long the rest may take.
_TRIED = 4

type Say = Callable[[str], None]
type Shapes = tuple[Shape, ...]


def chosen_shapes(names: Sequence[str]) -> Shapes:
    """The shapes with these names; all if there are none. Raises UsageError."""
    known = {shape.name for shape in SHAPES}
    if unknown := set(names) - known:
        raise UsageError(f"there is no shape {unknown.pop()!r}", hint=f"Shapes are: {', '.join(sorted(known))}.")
    return tuple(shape for shape in SHAPES if not names or shape.name in names)


class Ours:
    """Pylon's engine in an inference child, as a node runs it."""

    def __init__(self, service: InferenceService, model: str) -> None:
        self.service = service
        self._model = model
        self._asked = 0

    async def answer(self, prompts: list[str], most: int, in_flight: int = IN_FLIGHT) -> Load:
        """Asks all prompts, with greedy sampling and answers of at most `most` tokens."""
        sampling = Sampling(max_tokens=most)

        async def ask(prompt: str) -> Tokens:
            self._asked += 1
            request = GenerationRequest(
                str(self._asked), (Message("user", prompt),), sampling, self._model, customer="bench"
            )
            generation = await self.service.generate(request)
            return Tokens(generation.prompt_tokens, generation.completion_tokens)

        return await load(ask, prompts, in_flight)

    @property
    def model(self) -> ModelInfo:
        """The model that the child has loaded."""
        model = self.service.model
        assert model is not None  # noqa: S101 - `ours` asked it once
        return model

    def cpu_s(self) -> float:
        """Processor seconds of the inference child so far."""
        return cpu_s(psutil.Process(self.service.status().pid))

    async def counted(self) -> Beat:
        """The child's counts of computed tokens so far."""
        await asyncio.sleep(2 * BEAT_S)  # an idle child beats every BEAT_S
        return self.service.counted


@asynccontextmanager
async def ours(spec: EngineSpec) -> AsyncIterator[Ours]:
    """Pylon's engine with its model loaded. Raises EngineError if that does not load."""
    service = InferenceService(spec, SystemClock())
    await service.start()
    try:
        engine = Ours(service, spec.model)
        await engine.answer(["Hello."], 1)
        yield engine
    finally:
        await service.close()


def token_counter(spec: EngineSpec) -> Callable[[str], int]:
    """A function that counts a text's tokens by the model's own tokenizer. Raises EngineError."""
    if spec.model_file is not None:
        return gguf_counter(spec.model_file)
    if spec.model_dir is None:
        raise EngineFailedError("only an engine with its model's files on this machine can be measured")
    tokenizer = Tokenizer.from_file(str(spec.model_dir / "tokenizer.json"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


async def sweep(spec: EngineSpec, requests: int, shapes: Shapes, say: Say) -> dict[str, Any]:
    """Throughput and latency of each shape with 1 to 32 in flight, and the speeds that heartbeats announce."""
    count = token_counter(spec)
    rows: list[dict[str, Any]] = []
    parts = [(shape, width) for shape in shapes for width in WIDTHS]
    async with ours(spec) as engine:
        say("a few prompts of each shape first, to see how long the rest takes")
        each_s = {shape: await _alone_s(engine, shape, count) for shape in shapes}
        for number, (shape, width) in enumerate(parts):
            left = most_minutes(parts[number:], each_s, requests)
            say(f"part {number + 1} of {len(parts)}: {shape.name}, {width} in flight; at most about {left} min left")
            asked = prompts(shape, max(width, requests), f"width {width}", count)
            ran = await engine.answer(asked, shape.answer, width)
            rows.append(_row(shape, width, ran))
            each_s[shape] = ran.wall_s / ran.requests
        await engine.counted()
        status = engine.service.status()
    return {
        "model": spec.model,
        "tokens_in_per_s": round(status.tokens_in_per_s, 1),
        "tokens_out_per_s": round(status.tokens_out_per_s, 1),
        "rows": rows,
    }


def most_minutes(parts: Sequence[tuple[Shape, int]], each_s: Mapping[Shape, float], requests: int) -> int:
    """The minutes, rounded up, that parts of a sweep take, each a shape and the number in flight.

    `each_s` are the seconds that a request of a shape has taken so far: with more in flight it takes no longer.
    """
    return math.ceil(sum(each_s[shape] * max(width, requests) for shape, width in parts) / 60)


async def _alone_s(engine: Ours, shape: Shape, count: Callable[[str], int]) -> float:
    """Seconds of a request of this shape, one after the other, with the shared prefix read before."""
    await engine.answer(prompts(shape, 1, "prefix", count), shape.answer)
    ran = await engine.answer(prompts(shape, _TRIED, "alone", count), shape.answer, 1)
    return ran.wall_s / ran.requests


def _row(shape: Shape, width: int, load: Load) -> dict[str, Any]:
    return {
        "shape": shape.name,
        "in_flight": width,
        "requests": load.requests,
        "requests_per_s": round(load.requests / load.wall_s, 2),
        "tokens_in_per_s": round(load.tokens.prompt / load.wall_s, 1),
        "tokens_out_per_s": round(load.tokens.completion / load.wall_s, 1),
        "p50_s": round(load.latency_s(0.5), 3),
        "p95_s": round(load.latency_s(0.95), 3),
    }
