"""`pylon bench fanout`: times one customer's jobs to many providers and back, against the least that this could take.

Relays, customer and at least two groups of providers are separate processes on this machine, and engines answer at
once. So everything but the model is measured: signing, encryption, relays, journal, dispatch.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pylon.bench.floor import Floor, Sizes, measure
from pylon.bench.processes import START_S, Processes, open_processes
from pylon.errors import SetupError, UsageError
from pylon.host.open_files import allow_files
from pylon.inference.instant import MODEL_ID

MIN_PROCESSES = 2
FIND_S = 120.0
MAP_S = 330.0
# How often the floor is timed after each map.
FLOORS = 3
# Files that a process has open besides its connections.
SPARE_FILES = 256

# The two maps: between pairs that never met, and between pairs that have. Each is the seed of its prompts, too.
FRESH, MET = 1, 2

type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fanout:
    """What to run: `size` is the bytes of each prompt, `processes` how many processes hold the providers.

    With `accounts` jobs cost money: the first map is on trial, the second on credit. Without, they are free.
    Raises `UsageError` for a plan that cannot work.
    """

    providers: int
    jobs: int
    relays: int
    size: int
    processes: int
    accounts: bool

    def __post_init__(self) -> None:
        if self.accounts and self.jobs > self.providers:
            raise UsageError(
                f"{self.jobs} jobs for {self.providers} providers: each gives a stranger one job on trial",
                hint="Take as many providers as jobs, or --free.",
            )
        if self.processes < MIN_PROCESSES or self.providers < self.processes:
            raise UsageError(
                f"{self.providers} providers in {self.processes} processes is no swarm",
                hint=f"Take {MIN_PROCESSES} processes or more, and a provider for each at least.",
            )

    @property
    def slots(self) -> int:
        """Jobs that each provider runs at once: enough for all jobs, since the engine is not what is measured."""
        return -(-self.jobs // self.providers)


@dataclass(frozen=True, slots=True)
class Measured:
    """One map: the customer's report of it, and the processor seconds of relays, customer and providers."""

    customer: dict[str, Any]
    cpu_s: tuple[float, ...]

    @property
    def wall_s(self) -> float:
        return float(self.customer["wall_s"])


async def fanout(plan: Fanout, say: Say) -> dict[str, Any]:
    """Runs the benchmark; returns its report. However it ends, it leaves no process and no file.

    Raises `SetupError`, `UnreachableError`.
    """
    need_files(max(plan.providers, plan.relays) + SPARE_FILES)
    async with open_processes("pylon-fanout-") as processes:
        await _set_up(processes, plan, say)
        return await _measure(processes, plan, say)


async def _set_up(processes: Processes, plan: Fanout, say: Say) -> None:
    started = time.monotonic()
    say(f"{plan.relays} relay(s), {plan.providers} providers in {plan.processes} processes, one customer")
    for number in range(plan.relays):
        database = str(processes.folder / f"relay-{number}.db")
        processes.relays.append(
            await processes.start("relay", number, database=database, connections=plan.providers + SPARE_FILES)
        )
    urls = [relay.hello["url"] for relay in processes.relays]
    # The customer first: a relay gives at most 500 stored announcements, but passes on every new one.
    processes.customers.append(await processes.start("customer", relays=urls, accounts=plan.accounts))
    for number in range(plan.processes):
        processes.provider_groups.append(
            await processes.start("providers", number, slots=plan.slots, accounts=plan.accounts)
        )
    shares = [len(range(number, plan.providers, plan.processes)) for number in range(plan.processes)]
    await asyncio.gather(
        *(
            group.call("start", relays=urls, providers=share, timeout=START_S)
            for group, share in zip(processes.provider_groups, shares, strict=True)
        )
    )
    await processes.customers[0].call("find", providers=plan.providers, within_s=FIND_S, timeout=2 * FIND_S)
    for relay in processes.relays:
        await relay.call("settle")
    say(f"all are listed after {time.monotonic() - started:.1f} s")


async def _measure(processes: Processes, plan: Fanout, say: Say) -> dict[str, Any]:
    async def lend() -> None:
        for group in processes.provider_groups:
            await group.call("lend")

    first, second, sizes, figures = await two_maps(processes, plan.jobs, plan.size, say, between=lend)
    return {
        "jobs": plan.jobs,
        "providers": plan.providers,
        "relays": plan.relays,
        "processes": plan.processes,
        "bytes": plan.size,
        "accounts": plan.accounts,
        "paid_msat": [first.customer["paid_msat"], second.customer["paid_msat"]],
        "engine": MODEL_ID,
        "cores": usable_cores(),
        **figures,
        "customer_rss_mb": round(second.customer["rss_mb"], 1),
        "sent": [first.customer["sent"], second.customer["sent"]],
        "agreements": [first.customer["agreements"], second.customer["agreements"]],
        "message_bytes": [sizes.request_message, sizes.result_message],
    }


async def two_maps(
    processes: Processes, jobs: int, size: int, say: Say, *, between: Callable[[], Awaitable[None]] | None = None
) -> tuple[Measured, Measured, Sizes, dict[str, Any]]:
    """Runs two maps. Returns both, the bytes of a job in them, and how they compare with their floor.

    `between` is called between the maps.
    """
    # The machine's own speed changes from one second to the next: floor and maps take turns.
    first = await _map(processes, jobs, size, FRESH, say)
    sizes = Sizes(**await processes.customers[0].call("sizes"))
    floors = await _floors(sizes)
    if between is not None:
        await between()
    second = await _map(processes, jobs, size, MET, say)
    floors += await _floors(sizes)
    return first, second, sizes, _figures(jobs, first, second, floors)


def _figures(jobs: int, first: Measured, second: Measured, floors: list[tuple[Floor, Floor]]) -> dict[str, Any]:
    cores = usable_cores()
    cold_s, cold_cpu_s = _work(jobs, first, floors)
    strict_s, strict_cpu_s = _work(jobs, first, floors, own=True)
    warm_s, warm_cpu_s = _work(jobs, second, floors)
    return {
        "completed": min(first.customer["completed"], second.customer["completed"]),
        "wall_s": round(first.wall_s, 3),
        # Of few jobs on many cores, less than a millisecond.
        "floor_s": round(cold_s / cores, 6),
        "ratio": round(first.wall_s / (cold_s / cores), 2),
        "strict_ratio": round(first.wall_s / (strict_s / cores), 2),
        "warm_wall_s": round(second.wall_s, 3),
        "warm_floor_s": round(warm_s / cores, 6),
        "warm_ratio": round(second.wall_s / (warm_s / cores), 2),
        "cpu_ratio": round(sum(first.cpu_s) / cold_cpu_s, 2),
        "strict_cpu_ratio": round(sum(first.cpu_s) / strict_cpu_s, 2),
        "warm_cpu_ratio": round(sum(second.cpu_s) / warm_cpu_s, 2),
        "floor_cpu_s": round(cold_cpu_s, 2),
        "relay_cpu_s": round(first.cpu_s[0], 2),
        "customer_cpu_s": round(first.cpu_s[1], 2),
        "providers_cpu_s": round(first.cpu_s[2], 2),
    }


async def _map(processes: Processes, jobs: int, size: int, seed: int, say: Say) -> Measured:
    customer = processes.customers[0]
    await customer.call("prepare", jobs=jobs, size=size, seed=seed)
    before = processes.cpu_s()
    said = await customer.call("map", fresh=seed == FRESH, timeout=MAP_S)
    say(f"map {seed}: {said['completed']} of {jobs} in {said['wall_s']:.2f} s")
    spent = tuple(after - first for first, after in zip(before, processes.cpu_s(), strict=True))
    return Measured(said, spent)


async def _floors(sizes: Sizes) -> list[tuple[Floor, Floor]]:
    # In wall time and in processor time. Each takes half a second, and a machine may be a third slower in one than in
    # the next.
    return [(await measure(sizes), await measure(sizes, time.process_time)) for _ in range(FLOORS)]


def _work(
    jobs: int, measured: Measured, floors: list[tuple[Floor, Floor]], *, own: bool = False
) -> tuple[float, float]:
    """Seconds of one core that the map could not avoid, in wall time and in processor time."""
    agreements = measured.customer["agreements"]
    wall, cpu = (statistics.mean(pair[n].of(jobs, agreements, own=own) for pair in floors) for n in (0, 1))
    return wall, cpu


def usable_cores() -> int:
    """How many cores the processes of a benchmark may use."""
    # A container often gets fewer than the machine has; not every system tells which.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def need_files(wanted: int) -> None:
    """Raises the limit of open files to `wanted`, for this process and those that it starts. Raises `SetupError`."""
    most = allow_files(wanted)
    if most < wanted:
        raise SetupError(
            f"this takes {wanted} open files a process, and {most} is the most that is allowed here",
            hint="Take fewer providers, or raise the limit (ulimit -Hn).",
        )
