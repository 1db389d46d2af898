"""`pylon bench first-answer`: how long a new customer waits for its first answer in a large swarm.

The customer has a new key, no database and no connection. It reads the providers from the relay, chooses one, asks,
and is answered. Relay and providers are the shipped ones, in separate processes; a stand-in replaces the model.
"""

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

from pylon.bench.fanout import SPARE_FILES, Say, need_files
from pylon.bench.processes import START_S, Processes, open_processes
from pylon.errors import UsageError
from pylon.inference.instant import MODEL_ID
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.swarm.client import SwarmClient

# Processes that hold the providers.
PROCESSES = 2
LIST_S = 120.0
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Newcomers:
    """`times` new customers, one after the other, in a swarm of so many providers. Raises `UsageError`."""

    providers: int
    times: int

    def __post_init__(self) -> None:
        if self.providers < PROCESSES or self.times < 1:
            raise UsageError("a provider for each process, and one customer at least")


async def first_answer(plan: Newcomers, say: Say) -> dict[str, Any]:
    """Runs the benchmark; returns its report, in seconds from a customer's start."""
    need_files(plan.providers + SPARE_FILES)
    async with open_processes("pylon-first-answer-") as processes:
        url = await _set_up(processes, plan, say)
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


async def _set_up(processes: Processes, plan: Newcomers, say: Say) -> str:
    started = time.monotonic()
    say(f"one relay, {plan.providers} providers in {PROCESSES} processes")
    database = str(processes.folder / "relay.db")
    relay = await processes.start("relay", database=database, connections=plan.providers + SPARE_FILES)
    processes.relays.append(relay)
    url = str(relay.hello["url"])
    for number in range(PROCESSES):
        processes.provider_groups.append(await processes.start("providers", number, slots=1))
    shares = [len(range(number, plan.providers, PROCESSES)) for number in range(PROCESSES)]
    await asyncio.gather(
        *(
            group.call("start", relays=[url], providers=share, timeout=START_S)
            for group, share in zip(processes.provider_groups, shares, strict=True)
        )
    )
    say(f"all serve after {time.monotonic() - started:.1f} s")
    return url


async def _newcomer(url: str, providers: int) -> tuple[float, float, int]:
    """Seconds until the first answer and until all providers are listed, and how many are listed."""
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
