"""`pylon bench engine`: answers per second of this machine's engine, and against mlx_lm's own server."""

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pylon.bench.engine_load import Load, Tokens, load
from pylon.bench.engine_peer import WAYS, Peer, peer
from pylon.bench.engine_work import SHAPES, Shape, prompts
from pylon.clock import SystemClock
from pylon.errors import EngineFailedError
from pylon.inference.child import BEAT_S
from pylon.inference.engine import EngineSpec, GenerationRequest, Message, Sampling
from pylon.inference.service import InferenceService

WIDTHS = (1, 2, 4, 8, 16, 32)
IN_FLIGHT = 32
_FLOOR_LIMIT_S = 600
# The shapes for which efficiency is told: those that recursive runs make.
_EFFICIENCY = ("lines", "chunks")

Say = Callable[[str], None]


class Ours:
    """The engine in its child, as a node runs it."""

    def __init__(self, service: InferenceService, model: str) -> None:
        self.service = service
        self._model = model
        self._asked = 0

    async def answer(self, prompts: list[str], most: int, in_flight: int = IN_FLIGHT) -> Load:
        """Asks them all, greedily; answers have at most `most` tokens."""
        sampling = Sampling(max_tokens=most)

        async def ask(prompt: str) -> Tokens:
            self._asked += 1
            request = GenerationRequest(
                str(self._asked), (Message("user", prompt),), sampling, self._model, customer="bench"
            )
            generation = await self.service.generate(request)
            return Tokens(generation.prompt_tokens, generation.completion_tokens)

        return await load(ask, prompts, in_flight)

    async def read_tokens(self) -> int:
        """How many prompt tokens were computed so far."""
        await asyncio.sleep(2 * BEAT_S)  # an idle child beats every BEAT_S
        return self.service.counted.read_tokens


@asynccontextmanager
async def ours(spec: EngineSpec) -> AsyncIterator[Ours]:
    """Raises EngineError when the model does not load."""
    service = InferenceService(spec, SystemClock())
    await service.start()
    try:
        engine = Ours(service, spec.model)
        await engine.answer(["Hello."], 1)
        yield engine
    finally:
        await service.close()


def token_counter(directory: Path) -> Callable[[str], int]:
    """Counts a text's tokens as the model in `directory` cuts it."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


async def sweep(spec: EngineSpec, requests: int, say: Say) -> dict[str, Any]:
    """Throughput and latency of each shape with 1 to 32 in flight; and the speeds that a heartbeat tells."""
    count = token_counter(_directory(spec))
    rows: list[dict[str, Any]] = []
    async with ours(spec) as engine:
        for shape in SHAPES:
            for width in WIDTHS:
                say(f"{shape.name}, {width} in flight")
                part = prompts(shape, max(width, requests), f"width {width}", count)
                rows.append(_row(shape, width, await engine.answer(part, shape.answer, width)))
        await engine.read_tokens()
        status = engine.service.status()
    return {
        "model": spec.model,
        "tokens_in_per_s": round(status.tokens_in_per_s, 1),
        "tokens_out_per_s": round(status.tokens_out_per_s, 1),
        "rows": rows,
    }


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


async def versus(spec: EngineSpec, requests: int, rounds: int, say: Say) -> dict[str, Any]:
    """Ours against mlx_lm.server in turn, 32 in flight: see docs/benchmarks.md for each figure."""
    directory = _directory(spec)
    count = token_counter(directory)
    results: dict[str, Any] = {"model": spec.model, "rounds": rounds, "in_flight": IN_FLIGHT, "requests": requests}
    async with ours(spec) as engine, peer(directory, IN_FLIGHT) as other:
        for shape in SHAPES:
            results[shape.name] = await _shape(shape, engine, other, count, requests, rounds, say)
            if shape.name in _EFFICIENCY:
                floor = await _floor(directory, shape)
                results[shape.name] |= _efficiency(shape, requests, floor, results[shape.name])
            results[f"ratio_{shape.name}"] = results[shape.name]["ratio"]
    results["efficiency"] = min(results[name]["efficiency"] for name in _EFFICIENCY)
    return results


async def _shape(
    shape: Shape, engine: Ours, other: Peer, count: Callable[[str], int], requests: int, rounds: int, say: Say
) -> dict[str, Any]:
    """Medians over rounds; the first prompts of a shape only warm both sides' caches."""
    warm = prompts(shape, 4, "warm", count)
    await engine.answer(warm, shape.answer)
    for way in WAYS:
        await other.answer(prompts(shape, 2, f"warm {way}", count), shape.answer, way)
    ours_s: list[float] = []
    theirs_s: dict[str, list[float]] = {way: [] for way in WAYS}
    theirs_read: dict[str, float] = {}
    tokens = Tokens(0, 0)
    before = await engine.read_tokens()
    for number in range(rounds):
        say(f"{shape.name}, round {number + 1} of {rounds}")
        part = prompts(shape, requests, f"round {number}", count)
        ran = await engine.answer(part, shape.answer)
        ours_s.append(ran.wall_s)
        tokens = ran.tokens
        for way in WAYS:
            # A way gets prompts of its own: what the others left in the cache must not serve it.
            ran = await other.answer(prompts(shape, requests, f"{way} {number}", count), shape.answer, way)
            theirs_s[way].append(ran.wall_s)
            theirs_read[way] = ran.tokens.read / ran.requests
    read = await engine.read_tokens() - before
    best = min(WAYS, key=lambda way: statistics.median(theirs_s[way]))
    return {
        "ratio": round(statistics.median(theirs_s[best]) / statistics.median(ours_s), 2),
        "ours_s": [round(value, 3) for value in ours_s],
        "theirs_s": {way: [round(value, 3) for value in values] for way, values in theirs_s.items()},
        "best": best,
        "prompt_tokens": round(tokens.prompt / requests, 1),
        "completion_tokens": round(tokens.completion / requests, 1),
        "read_tokens": round(read / requests / rounds, 1),
        "their_read_tokens": round(theirs_read[best], 1),
    }


async def _floor(directory: Path, shape: Shape) -> dict[str, float]:
    """What engine_floor measures, in a process of its own."""
    numbers = [str(shape.shared), str(shape.own[1]), str(IN_FLIGHT)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pylon.bench.engine_floor", str(directory), *numbers),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _FLOOR_LIMIT_S)
        return {name: float(value) for name, value in json.loads(output).items()}
    except (TimeoutError, ValueError):
        raise EngineFailedError("the floor could not be measured") from None
    finally:
        if process.returncode is None:
            process.kill()


def _efficiency(shape: Shape, requests: int, floor: dict[str, float], measured: dict[str, Any]) -> dict[str, float]:
    """Reading what is new of each prompt at the best speed, and decoding at the best batch, over our time.

    The head was read before the rounds began.
    """
    own = measured["prompt_tokens"] - shape.shared
    steps = measured["completion_tokens"] * requests / IN_FLIGHT
    floor_s = own * requests * floor["token_s"] + steps * floor["step_s"]
    return {"floor_s": round(floor_s, 3), "efficiency": round(floor_s / statistics.median(measured["ours_s"]), 2)}


def _directory(spec: EngineSpec) -> Path:
    if spec.model_dir is None:
        raise EngineFailedError("only an engine with its model's files on this machine can be measured")
    return spec.model_dir
