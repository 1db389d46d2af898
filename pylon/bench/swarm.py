"""`pylon bench swarm`: how many times as fast many machines are as one, and what slow and dying ones cost.

Relay, customer and providers are the shipped ones, in processes of their own. Only the compute is a model: an engine
that sleeps for as long as a job takes, so that 64 machines fit onto one.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from pylon.bench.fanout import SPARE_FILES, Say, Stage, staged
from pylon.errors import UsageError

EACH_S = 0.8
# One provider alone is measured on so many jobs, and scaled: all of them would take a quarter of an hour.
ALONE_JOBS = 50
# Jobs a provider where several work, so that start and end weigh little.
ROUNDS = 20
SLOW_SHARE, SLOW_TIMES = 0.05, 10.0
DYING_SHARE = 0.2
FIND_S = 120.0
MAP_S = 330.0


@dataclass(frozen=True, slots=True)
class SwarmPlan:
    """How many providers there are at the most."""

    providers: int

    def __post_init__(self) -> None:
        if self.providers < 4:
            raise UsageError("a swarm has four providers at least", hint="Give --providers 4 or more.")

    @property
    def sizes(self) -> list[int]:
        """The numbers of providers that are compared with one."""
        return [k for k in (4, 16, 64, 256) if k < self.providers] + [self.providers]


async def swarm(plan: SwarmPlan, say: Say) -> dict[str, Any]:
    """Runs it; the report. However it ends, it leaves no process and no file."""
    async with staged("pylon-swarm-") as stage:
        return await _Bench(stage, plan, say).run()


class _Bench:
    def __init__(self, stage: Stage, plan: SwarmPlan, say: Say) -> None:
        self._stage = stage
        self._plan = plan
        self._say = say
        self._url = ""
        self._missing = 0

    async def run(self) -> dict[str, Any]:
        stage, plan = self._stage, self._plan
        database = str(stage.folder / "relay.db")
        relay = await stage.start("hub", database=database, connections=2 * plan.providers + SPARE_FILES)
        stage.relays.append(relay)
        self._url = relay.hello["url"]
        stage.customer.append(await stage.start("buyer", relays=[self._url], checks=True))
        slow = max(1, round(SLOW_SHARE * plan.providers))
        dying = max(1, round(DYING_SHARE * plan.providers))
        # The first one is alone with its process, and so are those that die together.
        steady, dies = await self._crowd(0, plan.providers - dying, EACH_S), await self._crowd(1, dying, EACH_S)
        slows = await self._crowd(2, slow, SLOW_TIMES * EACH_S)
        await stage.customer[0].call("find", providers=plan.providers + slow, within_s=FIND_S, timeout=2 * FIND_S)
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
        # What was left when they died is done by the others.
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

    async def _crowd(self, number: int, providers: int, each_s: float) -> list[str]:
        crowd = await self._stage.start("crowd", number, slots=1, together=providers, each_s=each_s)
        self._stage.crowds.append(crowd)
        started = await crowd.call("start", relays=[self._url], providers=providers, timeout=FIND_S)
        return list(started["keys"])

    async def _map(self, keys: list[str], jobs: int) -> float:
        customer = self._stage.customer[0]
        await customer.call("only", keys=keys)
        await customer.call("prepare", jobs=jobs, size=200, seed=jobs * 1_000 + len(keys))
        said = await customer.call("map", fresh=False, timeout=MAP_S)
        self._missing += jobs - said["completed"]
        self._say(f"{jobs} jobs by {len(keys)}: {said['wall_s']:.1f} s")
        return float(said["wall_s"])

    async def _map_with_deaths(self, keys: list[str], jobs: int) -> tuple[float, float]:
        """Seconds of a run in whose middle the second crowd dies, and when that was."""
        started = time.perf_counter()
        running = asyncio.create_task(self._map(keys, jobs))
        await asyncio.sleep(ROUNDS * EACH_S / 2)
        self._stage.crowds[1].kill()
        died_at = time.perf_counter() - started
        return await running, died_at
