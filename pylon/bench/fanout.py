"""`pylon bench fanout`: one customer's jobs out to many providers and back, against what that cannot avoid.

Relays, customer and at least two groups of providers are processes of their own on this machine; engines answer at
once. What is measured is therefore everything but the model: signing, sealing, relays, journal, dispatch.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pylon.bench.floor import Floor, Sizes, measure
from pylon.bench.part import Part
from pylon.errors import SetupError, UsageError
from pylon.host.open_files import allow_files
from pylon.inference.instant import MODEL_ID

MIN_PROCESSES = 2
START_S = 120.0
FIND_S = 120.0
MAP_S = 330.0
# So often the floor is timed after each map.
FLOORS = 3
# What a process has open besides its connections.
SPARE_FILES = 256

# The two maps, which are also the seeds of their prompts: pairs that never met, and pairs that have.
FRESH, MET = 1, 2

type Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fanout:
    """What to run: `size` is bytes a prompt, `processes` how many hold the providers.

    With `accounts` jobs cost something: first on trial, then on credit. Without, all is free.
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
        """What a provider runs at once, so that all jobs find room: the engine is not what is measured."""
        return -(-self.jobs // self.providers)


@dataclass
class Stage:
    """The processes of one run, modules of one package, and the folder of all that they write."""

    folder: Path
    package: str = "pylon.bench"
    relays: list[Part] = field(default_factory=list)
    crowds: list[Part] = field(default_factory=list)
    customer: list[Part] = field(default_factory=list)

    async def start(self, what: str, number: int = 0, **settings: Any) -> Part:
        folder = self.folder / f"{what}-{number}"
        folder.mkdir()
        return await Part.start(
            f"{self.package}.{what}", {"folder": str(folder), **settings}, folder / "log", timeout=START_S
        )

    async def close(self) -> None:
        """Ends all, readers before what they read from."""
        for parts in (self.customer, self.crowds, self.relays):
            await asyncio.gather(*(part.close() for part in parts))

    def cpu_s(self) -> tuple[float, float, float]:
        """Processor seconds so far: of the relays, the customer, the providers with their engines."""
        relays, customer, crowds = (
            sum(part.cpu_s() for part in parts) for parts in (self.relays, self.customer, self.crowds)
        )
        return relays, customer, crowds


@dataclass(frozen=True, slots=True)
class Measured:
    """One map: what the customer says of it, and the processor seconds that it took, side by side as above."""

    customer: dict[str, Any]
    cpu_s: tuple[float, ...]

    @property
    def wall_s(self) -> float:
        return float(self.customer["wall_s"])


async def fanout(plan: Fanout, say: Say) -> dict[str, Any]:
    """Runs it; the report. However it ends, it leaves no process and no file.

    Raises `SetupError`, `UnreachableError`.
    """
    need_files(max(plan.providers, plan.relays) + SPARE_FILES)
    async with staged("pylon-fanout-") as stage:
        await _set_up(stage, plan, say)
        return await _measure(stage, plan, say)


@asynccontextmanager
async def staged(prefix: str, package: str = Stage.package) -> AsyncIterator[Stage]:
    """A stage that leaves no process and no file, however it ends."""
    stage = Stage(Path(tempfile.mkdtemp(prefix=prefix)), package)
    try:
        yield stage
    finally:
        await asyncio.shield(stage.close())
        shutil.rmtree(stage.folder, ignore_errors=True)


async def _set_up(stage: Stage, plan: Fanout, say: Say) -> None:
    started = time.monotonic()
    say(f"{plan.relays} relay(s), {plan.providers} providers in {plan.processes} processes, one customer")
    for number in range(plan.relays):
        database = str(stage.folder / f"relay-{number}.db")
        stage.relays.append(
            await stage.start("hub", number, database=database, connections=plan.providers + SPARE_FILES)
        )
    urls = [part.hello["url"] for part in stage.relays]
    # First the customer: a relay answers with 500 stored announcements at most, and passes all new ones on.
    stage.customer.append(await stage.start("buyer", relays=urls, accounts=plan.accounts))
    for number in range(plan.processes):
        stage.crowds.append(await stage.start("crowd", number, slots=plan.slots, accounts=plan.accounts))
    shares = [len(range(number, plan.providers, plan.processes)) for number in range(plan.processes)]
    await asyncio.gather(
        *(
            crowd.call("start", relays=urls, providers=share, timeout=START_S)
            for crowd, share in zip(stage.crowds, shares, strict=True)
        )
    )
    await stage.customer[0].call("find", providers=plan.providers, within_s=FIND_S, timeout=2 * FIND_S)
    for relay in stage.relays:
        await relay.call("settle")
    say(f"all are listed after {time.monotonic() - started:.1f} s")


async def _measure(stage: Stage, plan: Fanout, say: Say) -> dict[str, Any]:
    async def lend() -> None:
        for crowd in stage.crowds:
            await crowd.call("lend")

    first, second, sizes, figures = await two_maps(stage, plan.jobs, plan.size, say, between=lend)
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
    stage: Stage, jobs: int, size: int, say: Say, *, between: Callable[[], Awaitable[None]] | None = None
) -> tuple[Measured, Measured, Sizes, dict[str, Any]]:
    """Two maps of the stage's customer, what a job weighed in them, and how they compare with their floor."""
    # The machine's own speed changes from one second to the next: floor and maps take turns.
    first = await _map(stage, jobs, size, FRESH, say)
    sizes = Sizes(**await stage.customer[0].call("sizes"))
    floors = await _floors(sizes)
    if between is not None:
        await between()
    second = await _map(stage, jobs, size, MET, say)
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
        "floor_s": round(cold_s / cores, 3),
        "ratio": round(first.wall_s / (cold_s / cores), 2),
        "strict_ratio": round(first.wall_s / (strict_s / cores), 2),
        "warm_wall_s": round(second.wall_s, 3),
        "warm_floor_s": round(warm_s / cores, 3),
        "warm_ratio": round(second.wall_s / (warm_s / cores), 2),
        "cpu_ratio": round(sum(first.cpu_s) / cold_cpu_s, 2),
        "strict_cpu_ratio": round(sum(first.cpu_s) / strict_cpu_s, 2),
        "warm_cpu_ratio": round(sum(second.cpu_s) / warm_cpu_s, 2),
        "floor_cpu_s": round(cold_cpu_s, 2),
        "relay_cpu_s": round(first.cpu_s[0], 2),
        "customer_cpu_s": round(first.cpu_s[1], 2),
        "providers_cpu_s": round(first.cpu_s[2], 2),
    }


async def _map(stage: Stage, jobs: int, size: int, seed: int, say: Say) -> Measured:
    customer = stage.customer[0]
    await customer.call("prepare", jobs=jobs, size=size, seed=seed)
    before = stage.cpu_s()
    said = await customer.call("map", fresh=seed == FRESH, timeout=MAP_S)
    say(f"map {seed}: {said['completed']} of {jobs} in {said['wall_s']:.2f} s")
    spent = tuple(after - first for first, after in zip(before, stage.cpu_s(), strict=True))
    return Measured(said, spent)


async def _floors(sizes: Sizes) -> list[tuple[Floor, Floor]]:
    # By the wall's clock, and by the processor's. Each takes half a second, in which a machine may be a third slower
    # than in the next.
    return [(await measure(sizes), await measure(sizes, time.process_time)) for _ in range(FLOORS)]


def _work(
    jobs: int, measured: Measured, floors: list[tuple[Floor, Floor]], *, own: bool = False
) -> tuple[float, float]:
    """Seconds of one core that the map could not avoid: by the wall's clock, and by the processor's."""
    agreements = measured.customer["agreements"]
    wall, cpu = (statistics.mean(pair[n].of(jobs, agreements, own=own) for pair in floors) for n in (0, 1))
    return wall, cpu


def usable_cores() -> int:
    """How many cores there are for the processes of a stage."""
    # Those that this process may use, where the system tells; a container often gets fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def need_files(wanted: int) -> None:
    """Lets this process and those that it starts, which inherit it, have so many files open. Raises `SetupError`."""
    most = allow_files(wanted)
    if most < wanted:
        raise SetupError(
            f"this takes {wanted} open files a process, and {most} is the most that is allowed here",
            hint="Take fewer providers, or raise the limit (ulimit -Hn).",
        )
