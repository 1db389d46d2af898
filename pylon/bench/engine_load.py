"""Asking an engine with so many in flight, and what that took."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of one answer: its prompt's, its own, and of the prompt's those that were computed, where that is told."""

    prompt: int
    completion: int
    read: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds from the first request to the last answer, each request's own seconds, tokens of all."""

    wall_s: float
    latencies_s: tuple[float, ...]
    tokens: Tokens

    @property
    def requests(self) -> int:
        return len(self.latencies_s)

    def latency_s(self, share: float) -> float:
        """The latency that this share of requests stays within."""
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
