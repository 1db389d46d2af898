"""`pylon bench swarm`: the speedup of many providers over one, and what slow and dying providers cost.

Relay, customer and providers are the shipped ones, in separate processes. Only the compute is modelled: the engine
sleeps for as long as a job takes, so that 64 providers fit on one machine.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from pylon.bench.fanout import SPARE_FILES, Say
from pylon.bench.processes import Processes, open_processes
from pylon.errors import UsageError

EACH_S = 0.8
# One provider is measured on so many jobs and its time scaled up: all jobs would take a quarter of an hour.
ALONE_JOBS = 50
# Jobs for each provider where several work: enough that start and end weigh little.
ROUNDS = 20
SLOW_SHARE, SLOW_TIMES = 0.05, 10.0
DYING_SHARE = 0.2
FIND_S = 120.0
MAP_S = 330.0


@dataclass(frozen=True, slots=True)
class SwarmPlan:
    """`providers`: the largest number of providers that is measured. Raises `UsageError` below 4."""

    providers: int

    def __post_init__(self) -> None:
        if self.providers < 4:
            raise UsageError("a swarm has four providers at least", hint="Give --providers 4 or more.")

    @property
    def sizes(self) -> list[int]:
        """The numbers of providers that are compared with one."""
        return [k for k in (4, 16, 64, 256) if k < self.providers] + [self.providers]


async def swarm(plan: SwarmPlan, say: Say) -> dict[str, Any]:
    """Runs the benchmark; returns its report. However it ends, it leaves no process and no file."""
    async with open_processes("pylon-swarm-") as processes:
        return await _Bench(processes, plan, say).run()


class _Bench:
    def __init__(self, processes: Processes, plan: SwarmPlan, say: Say) -> None:
        self._processes = processes
        self._plan = plan
        self._say = say
        self._url = ""
        self._missing = 0

    async def run(self) -> dict[str, Any]:
        processes, plan = self._processes, self._plan
        database = str(processes.folder / "relay.db")
        relay = await processes.start("relay", database=database, connections=2 * plan.providers + SPARE_FILES)
        processes.relays.append(relay)
        self._url = relay.hello["url"]
        processes.customers.append(await processes.start("customer", relays=[self._url], checks=True))
        slow = max(1, round(SLOW_SHARE * plan.providers))
        dying = max(1, round(DYING_SHARE * plan.providers))
        # The dying providers share a process of their own, which is killed.
        steady = await self._start_providers(0, plan.providers - dying, EACH_S)
        dies = await self._start_providers(1, dying, EACH_S)
        slows = await self._start_providers(2, slow, SLOW_TIMES * EACH_S)
        await processes.customers[0].call(
            "find", providers=plan.providers + slow, within_s=FIND_S, timeout=2 * FIND_S
        )
        keys = steady + dies
        alone_s = await self._map(keys[:1], ALONE_JOBS) / ALONE_JOBS
        speedup = {"1": 1.0}
        for k in plan.sizes:
            jobs = ROUNDS * k
            speedup[str(k)] = round(alone_s * jobs / await self._map(keys[:k], jobs), 2)
        jobs = ROUNDS * plan.providers
        slow_s = await self._map(keys[slow:] + slows, jobs)
        rate = (plan.providers - slow) / EACH_S + slow / (SLOW_TIMES * EACH_S)
        died_s, died_at = await self._map_with_deaths(keys, jobs)
        # The jobs that were left when they died are done by the others.
        done = died_at * plan.providers / EACH_S
        ideal_s = died_at + (jobs - done) * EACH_S / (plan.providers - dying)
        return {
            "providers": plan.providers,
            "compute": f"a model: every engine sleeps {EACH_S} s a job, one job at a time",
            "alone": f"measured on {ALONE_JOBS} jobs and scaled",
            "job_s_alone": round(alone_s, 3),
            "speedup": speedup,
            "efficiency": {k: round(times / int(k), 3) for k, times in speedup.items()},
            "slow": {"share": slow, "times": SLOW_TIMES, "ratio": round(slow_s / (jobs / rate), 2)},
            "dying": {"share": dying, "ratio": round(died_s / ideal_s, 2)},
            "missing": self._missing,
        }

    async def _start_providers(self, number: int, providers: int, each_s: float) -> list[str]:
        group = await self._processes.start("providers", number, slots=1, together=providers, each_s=each_s)
        self._processes.provider_groups.append(group)
        started = await group.call("start", relays=[self._url], providers=providers, timeout=FIND_S)
        return list(started["keys"])

    async def _map(self, keys: list[str], jobs: int) -> float:
        customer = self._processes.customers[0]
        await customer.call("only", keys=keys)
        await customer.call("prepare", jobs=jobs, size=200, seed=jobs * 1_000 + len(keys))
        said = await customer.call("map", fresh=False, timeout=MAP_S)
        self._missing += jobs - said["completed"]
        self._say(f"{jobs} jobs by {len(keys)}: {said['wall_s']:.1f} s")
        return float(said["wall_s"])

    async def _map_with_deaths(self, keys: list[str], jobs: int) -> tuple[float, float]:
        """Maps while the second group of providers is killed midway; seconds of the map, and until the kill."""
        started = time.perf_counter()
        running = asyncio.create_task(self._map(keys, jobs))
        await asyncio.sleep(ROUNDS * EACH_S / 2)
        self._processes.provider_groups[1].kill()
        died_at = time.perf_counter() - started
        return await running, died_at
