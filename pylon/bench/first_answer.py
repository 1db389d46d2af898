"""`pylon bench first-answer`: how long a customer that has nothing waits for its first answer in a large swarm.

It has a new key, no database and no connection: it reads who is there from the relay, chooses, asks, and is answered.
Relay and providers are the shipped ones, in processes of their own; a stand-in answers in place of a model.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

from pylon.bench.fanout import SPARE_FILES, START_S, Say, Stage, need_files, staged
from pylon.errors import UsageError
from pylon.inference.instant import MODEL_ID
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.swarm.client import SwarmClient

# These hold the providers.
PROCESSES = 2
LIST_S = 120.0
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Newcomers:
    """`times` customers come one after the other, to so many providers."""

    providers: int
    times: int

    def __post_init__(self) -> None:
        if self.providers < PROCESSES or self.times < 1:
            raise UsageError("a provider for each process, and one customer at least")


async def first_answer(plan: Newcomers, say: Say) -> dict[str, Any]:
    """Runs it; the report, in seconds from nothing. However it ends, it leaves no process and no file."""
    need_files(plan.providers + SPARE_FILES)
    async with staged("pylon-first-answer-") as stage:
        url = await _set_up(stage, plan, say)
        seen = [await _newcomer(url, plan.providers) for _ in range(plan.times)]
    firsts, alls = [first for first, _, _ in seen], [all_ for _, all_, _ in seen]
    return {
        "providers": plan.providers,
        "times": plan.times,
        "engine": MODEL_ID,
        "first_answer_s": round(statistics.median(firsts), 3),
        "slowest_s": round(max(firsts), 3),
        "all_listed_s": round(statistics.median(alls), 3),
        "listed": min(listed for _, _, listed in seen),
    }


async def _set_up(stage: Stage, plan: Newcomers, say: Say) -> str:
    started = time.monotonic()
    say(f"one relay, {plan.providers} providers in {PROCESSES} processes")
    database = str(stage.folder / "relay.db")
    relay = await stage.start("hub", database=database, connections=plan.providers + SPARE_FILES)
    stage.relays.append(relay)
    url = str(relay.hello["url"])
    for number in range(PROCESSES):
        stage.crowds.append(await stage.start("crowd", number, slots=1))
    shares = [len(range(number, plan.providers, PROCESSES)) for number in range(PROCESSES)]
    await asyncio.gather(
        *(
            crowd.call("start", relays=[url], providers=share, timeout=START_S)
            for crowd, share in zip(stage.crowds, shares, strict=True)
        )
    )
    say(f"all serve after {time.monotonic() - started:.1f} s")
    return url


async def _newcomer(url: str, providers: int) -> tuple[float, float, int]:
    """Seconds to the first answer and to the whole list, and how many are on it."""
    started = time.perf_counter()
    secret = SecretKey.generate()
    pool = RelayPool([url], secret=secret)
    pool.start()
    try:
        async with SwarmClient(pool, secret) as swarm:
            await swarm.complete("How many legs has a spider?", max_tokens=16)
            first_s = time.perf_counter() - started
            while len(swarm.directory) < providers and time.perf_counter() - started < LIST_S:  # noqa: ASYNC110 - tells nobody
                await asyncio.sleep(_LOOK_S)
            return first_s, time.perf_counter() - started, len(swarm.directory)
    finally:
        await pool.close()
