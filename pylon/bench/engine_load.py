"""Puts load on an engine: asks it with a number of requests in flight, and measures the time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts: of prompts, of answers, and of prompt tokens that were computed, not cached, where known."""

    prompt: int
    completion: int
    read: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What a load took: seconds from first request to last answer, each request's latency, and all tokens."""

    wall_s: float
    latencies_s: tuple[float, ...]
    tokens: Tokens

    @property
    def requests(self) -> int:
        return len(self.latencies_s)

    def latency_s(self, share: float) -> float:
        """The latency in seconds that this share (0 to 1) of the requests does not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def load(ask: Callable[[str], Awaitable[Tokens]], prompts: Sequence[str], in_flight: int) -> Load:
    """Asks all prompts, at most `in_flight` at once."""
    slots = asyncio.Semaphore(in_flight)

    async def one(prompt: str) -> tuple[float, Tokens]:
        async with slots:
            began = time.perf_counter()
            tokens = await ask(prompt)
            return time.perf_counter() - began, tokens

    began = time.perf_counter()
    answers = await asyncio.gather(*(one(prompt) for prompt in prompts))
    wall_s = time.perf_counter() - began
    totals = Tokens(
        sum(tokens.prompt for _, tokens in answers),
        sum(tokens.completion for _, tokens in answers),
        sum(tokens.read for _, tokens in answers),
    )
    return Load(wall_s, tuple(latency for latency, _ in answers), totals)
