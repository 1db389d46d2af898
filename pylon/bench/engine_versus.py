"""`pylon bench engine --vs`: our engine against a server with the same model, and against the engine's floor."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

from pylon.bench.engine import IN_FLIGHT, Ours, Say, Shapes, ours, token_counter
from pylon.bench.engine_floor import Floor
from pylon.bench.engine_load import Load, Tokens
from pylon.bench.engine_peer import WAYS, Peer, peer
from pylon.bench.engine_work import Shape, prompts
from pylon.errors import EngineFailedError
from pylon.inference.engine import EngineSpec

_PART_LIMIT_S = 600
# A way of asking the peer that took this many times as long as its fastest one is not tried again.
_HOPELESS = 1.5
_COUNTED = ("ratio_", "cpu_ratio_", "efficiency", "cpu_efficiency")
# The shapes for which efficiency is reported: those of recursive runs.
_EFFICIENCY = ("lines", "chunks")


async def versus(spec: EngineSpec, requests: int, rounds: int, shapes: Shapes, say: Say) -> dict[str, Any]:
    """Measures ours and the peer in turn, with 32 in flight. docs/benchmarks.md explains each figure.

    Raises EngineError.
    """
    count = token_counter(spec)
    results: dict[str, Any] = {"model": spec.model, "rounds": rounds, "in_flight": IN_FLIGHT, "requests": requests}
    async with ours(spec) as engine, peer(spec, engine.model, IN_FLIGHT) as other:
        for shape in shapes:
            # The floor is measured with MLX only.
            floor_of = spec.model_dir if shape.name in _EFFICIENCY else None
            duel = _Duel(shape, WAYS[spec.engine], requests, rounds, floor_of)
            results[shape.name] = await _shape(duel, engine, other, count, say)
            for figure in ("ratio", "cpu_ratio"):
                results[f"{figure}_{shape.name}"] = results[shape.name][figure]
            figures = ("ratio", "cpu_ratio", "efficiency", "cpu_efficiency")
            told = [f"{figure} {results[shape.name][figure]}" for figure in figures if figure in results[shape.name]]
            say(f"{spec.model}, {shape.name}: {', '.join(told)}")
    for figure in ("efficiency", "cpu_efficiency"):
        told = [results[shape.name][figure] for shape in shapes if figure in results[shape.name]]
        if told:
            results[figure] = min(told)
    return results


def lower(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The lowest of each figure in the reports of several models; the reports themselves are in `models`."""
    figures = [name for name, value in reports[0].items() if name.startswith(_COUNTED) and isinstance(value, float)]
    return {name: min(report[name] for report in reports) for name in figures} | {"models": list(reports)}


@dataclass(slots=True)
class Side:
    """The rounds of one side: wall and processor seconds of each, and prompt tokens computed per request."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    read: float = 0.0

    async def run(self, work: Awaitable[Load], cpu_s: Callable[[], float]) -> Load:
        """Times one round."""
        before = cpu_s()
        ran = await work
        self.wall_s.append(ran.wall_s)
        self.cpu_s.append(cpu_s() - before)
        self.read = ran.tokens.read / ran.requests
        return ran

    def told(self) -> dict[str, list[float]]:
        return {
            "wall_s": [round(value, 3) for value in self.wall_s],
            "cpu_s": [round(value, 3) for value in self.cpu_s],
        }


@dataclass(frozen=True, slots=True)
class _Duel:
    """One shape's comparison. `ways` are how the peer is asked; `floor_of` is the model whose floor is measured."""

    shape: Shape
    ways: tuple[str, ...]
    requests: int
    rounds: int
    floor_of: Path | None


async def _shape(duel: _Duel, engine: Ours, other: Peer, count: Callable[[str], int], say: Say) -> dict[str, Any]:
    """Medians over the rounds, after prompts that only warm the caches and memory of both sides."""
    shape, ways, requests, rounds = duel.shape, duel.ways, duel.requests, duel.rounds
    # As many as are in flight later, so that cold memory does not count, as in the floor.
    warming = min(requests, IN_FLIGHT)
    await engine.answer(prompts(shape, warming, "warm", count), shape.answer)
    for way in ways:
        await other.answer(prompts(shape, warming, f"warm {way}", count), shape.answer, way)
    mine, theirs = Side(), {way: Side() for way in ways}
    tokens, floors = Tokens(0, 0), list[Floor]()
    before = await engine.counted()
    for number in range(rounds):
        say(f"{shape.name}, round {number + 1} of {rounds}: ours")
        part = prompts(shape, requests, f"round {number}", count)
        tokens = (await mine.run(engine.answer(part, shape.answer), engine.cpu_s)).tokens
        if duel.floor_of is not None:
            say(f"{shape.name}, round {number + 1} of {rounds}: what cannot be avoided")
            floors.append(await _floor(duel.floor_of, shape))
        for way in _still_in_question(theirs):
            say(f"{shape.name}, round {number + 1} of {rounds}: the peer, {way}")
            # Each way gets prompts of its own, which the others have not left in the cache.
            part = prompts(shape, requests, f"{way} {number}", count)
            await theirs[way].run(other.answer(part, shape.answer, way), other.cpu_s)
    after = await engine.counted()
    read = (after.read_tokens - before.read_tokens) / requests / rounds
    decoded = (after.completion_tokens - before.completion_tokens) / requests / rounds
    best = min(ways, key=lambda way: median(theirs[way].wall_s))
    cheapest = min(ways, key=lambda way: median(theirs[way].cpu_s))
    return {
        "ratio": round(median(theirs[best].wall_s) / median(mine.wall_s), 2),
        "cpu_ratio": round(median(theirs[cheapest].cpu_s) / median(mine.cpu_s), 2),
        "ours": mine.told(),
        "theirs": {way: side.told() for way, side in theirs.items()},
        "best": best,
        "prompt_tokens": round(tokens.prompt / requests, 1),
        "completion_tokens": round(tokens.completion / requests, 1),
        "read_tokens": round(read, 1),
        "their_read_tokens": round(theirs[best].read, 1),
        **(
            efficiency(requests, min(read, tokens.prompt / requests - shape.shared), decoded, floors, mine)
            if floors
            else {}
        ),
    }


def _still_in_question(theirs: dict[str, Side]) -> list[str]:
    """The ways that may still turn out fastest, in wall or in processor time."""
    if any(not side.wall_s for side in theirs.values()):
        return list(theirs)
    wall_s = min(side.wall_s[0] for side in theirs.values())
    cpu_s = min(side.cpu_s[0] for side in theirs.values())
    return [
        way
        for way, side in theirs.items()
        if side.wall_s[0] <= _HOPELESS * wall_s or side.cpu_s[0] <= _HOPELESS * cpu_s
    ]


async def _floor(directory: Path, shape: Shape) -> Floor:
    """The floor of this shape, measured by `engine_floor` in a process of its own."""
    numbers = [str(shape.shared), str(shape.own[1]), str(IN_FLIGHT)]
    output = await run_module("pylon.bench.engine_floor", str(directory), *numbers)
    return Floor(**json.loads(output))


async def run_module(module: str, *arguments: str) -> bytes:
    """Runs one of our modules as a process; returns its output. Raises EngineFailedError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _PART_LIMIT_S)
    except TimeoutError:
        raise EngineFailedError(f"{module} took too long") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise EngineFailedError(f"{module} ended with exit code {process.returncode}")
    return output


def efficiency(requests: int, own: float, decoded: float, floors: Sequence[Floor], mine: Side) -> dict[str, float]:
    """The floor of a round over its time, medians of the rounds: the machine's speed changes between them.

    `own` are the prompt tokens of a request behind the prefix, the last of which is read by the first decoding step.
    `decoded` are the tokens of its answer, including the one that ends it. The prefix was read before the rounds.
    """
    read, steps = (own - 1) * requests, decoded * requests / IN_FLIGHT
    wall_s = [read * floor.token_s + steps * floor.step_s for floor in floors]
    cpu_s = [read * floor.token_cpu_s + steps * floor.step_cpu_s for floor in floors]
    return {
        "floor_s": round(median(wall_s), 3),
        "floor_cpu_s": round(median(cpu_s), 3),
        "efficiency": round(median(map(truediv, wall_s, mine.wall_s)), 2),
        "cpu_efficiency": round(median(map(truediv, cpu_s, mine.cpu_s)), 2),
    }
