"""`pylon bench rlm`: one program's sub-calls on 1 to 64 providers, against the RLM paper's engine on one machine.

Relay, providers, customer, loop, REPL and trajectory are the shipped ones. Only the compute is modelled: every engine
and the peer's endpoint sleep for as long as a sub-call takes, one at a time, and the root model is a script.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pylon import config as settings
from pylon.bench.fanout import SPARE_FILES, Say
from pylon.bench.processes import Processes, open_processes
from pylon.clock import SystemClock
from pylon.errors import UnreachableError, UsageError
from pylon.node import identity
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.rlm import parts as rlm_parts
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.node.session import LocalNode
from pylon.rlm import runs
from pylon.rlm.budget import Limits
from pylon.rlm.context import from_value
from pylon.rlm.repl.protocol import Repl
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import ScriptedRoot
from pylon.rlm.settings import SubSettings
from pylon.rlm.trajectory import Trajectory
from pylon.sections import RlmSection
from pylon.swarm.client import SwarmClient

EACH_S = 0.8
# One machine is measured on so many calls and its time scaled up: all calls would take a quarter of an hour.
ALONE_CALLS = 50
LOOP_CALLS = 200
GROUPS = 2
FIND_S = 120.0
PEER_S = 300.0
TIMEOUT_S = 600.0

_COUNT = 'answer["content"] = str(sum(s.startswith("stand-in answer") for s in said)); answer["ready"] = True'
_BATCH = "said = llm_query_batched([f'line {{n}} of {name}' for n in range({calls})])\n" + _COUNT
_LOOP = "said = []\nfor n in range({calls}):\n    said.append(llm_query(f'line {{n}} of {name}'))\n" + _COUNT


@dataclass(frozen=True, slots=True)
class RlmPlan:
    """`calls` of the program, and the largest number of providers. Raises `UsageError` for too few providers."""

    calls: int
    providers: int

    def __post_init__(self) -> None:
        if self.providers < GROUPS:
            raise UsageError(f"there are {GROUPS} providers at least", hint=f"Give --providers {GROUPS} or more.")

    @property
    def widths(self) -> list[int]:
        """The numbers of providers that are measured."""
        return [k for k in (1, 4, 16, 64) if k < self.providers] + [self.providers]


async def bench(plan: RlmPlan, say: Say) -> dict[str, Any]:
    """Runs the benchmark; returns its report. However it ends, it leaves no process and no file.

    Raises `SetupError`, `SandboxError`, `UnreachableError`.
    """
    async with open_processes("pylon-rlm-") as processes:
        return await _bench(processes, plan, say)


async def _bench(processes: Processes, plan: RlmPlan, say: Say) -> dict[str, Any]:
    database = str(processes.folder / "relay.db")
    processes.relays.append(
        await processes.start("relay", database=database, connections=2 * plan.providers + SPARE_FILES)
    )
    url = processes.relays[0].hello["url"]
    peer = await processes.start("rlm_peer", each_s=EACH_S)
    processes.customers.append(peer)
    home = Home(processes.folder / "customer")
    home.create()
    identity.create(home.identity_file)
    async with Core(home, settings.parse({"network": "play", "relays": [url]}), serve=False) as core:
        client = (await core.customer()).client
        keys: list[str] = []
        for number in range(GROUPS):
            share = len(range(number, plan.providers, GROUPS))
            group = await processes.start("providers", number, slots=1, together=share, each_s=EACH_S)
            processes.provider_groups.append(group)
            started = await group.call("start", relays=[url], providers=share, timeout=FIND_S)
            keys += started["keys"]
        await _listed(client, len(keys))
        say(f"{len(keys)} providers are listed")
        ours = _Ours(home, core, client, keys, await rlm_parts.open_repls(RlmSection(), home.cache))
        return await _measure(plan, ours, peer.call, peer.hello["version"], say)


@dataclass(frozen=True, slots=True)
class _Ours:
    """Pylon's side of the comparison: runs each program in a new RLM loop over the swarm."""

    home: Home
    core: Core
    client: SwarmClient
    keys: list[str]
    open_repl: Callable[[], Repl]

    async def run(self, program: str, calls: int, width: int, name: str) -> tuple[float, int]:
        """Seconds of a whole run over so many providers, from its first turn to its answer, and answers that came."""
        self.client.change_circle(allow=frozenset(self.keys[:width]), own=frozenset())
        clock = SystemClock()
        trajectory = Trajectory(runs.new_run(self.home.runs, clock.wall()), clock)
        try:
            context = from_value("a context of no importance", trajectory.folder / "context")
            rlm = Rlm(
                ScriptedRoot([_root_reply(program, calls, name)]), SwarmSubLM(LocalNode(self.core)), self.open_repl,
                trajectory, clock, settings=rlm_parts.loop_settings(RlmSection(), "rlm"),
                sub_settings=SubSettings(max_tokens=32, timeout_s=TIMEOUT_S),
            )  # fmt: skip
            started = time.perf_counter()
            outcome = await rlm.run("How many lines are answered?", context, Limits())
            return time.perf_counter() - started, int(outcome.answer or 0)
        finally:
            trajectory.close()


async def _measure(plan: RlmPlan, ours: _Ours, peer_call: Any, version: str, say: Say) -> dict[str, Any]:
    alone = min(ALONE_CALLS, plan.calls)
    # At the same time: both mostly sleep, so they hardly disturb each other.
    theirs, first = await asyncio.gather(
        peer_call("run", script=_root_reply(_BATCH, alone, "peer"), timeout=PEER_S),
        ours.run(_BATCH, alone, 1, "alone"),
    )
    peer_s = theirs["wall_s"] * plan.calls / alone
    took = {1: first[0] * plan.calls / alone}
    missing = alone - first[1] + alone - theirs["answered"]
    say(f"{alone} calls on one machine: rlms {theirs['wall_s']:.1f} s, ours {first[0]:.1f} s")
    for width in plan.widths[1:]:
        took[width], answered = await ours.run(_BATCH, plan.calls, width, f"width {width}")
        missing += plan.calls - answered
        say(f"{plan.calls} calls on {width}: {took[width]:.1f} s")
    calls, width = min(LOOP_CALLS, plan.calls), plan.widths[-1]
    batch_s, in_batch = await ours.run(_BATCH, calls, width, "batch")
    loop_s, in_loop = await ours.run(_LOOP, calls, width, "loop")
    missing += 2 * calls - in_batch - in_loop
    say(f"{calls} calls on {width}: a batch {batch_s:.1f} s, a for loop {loop_s:.1f} s")
    return {
        "calls": plan.calls,
        "compute": f"a model: a sub-call sleeps {EACH_S} s, one at a time on each machine; the root is a script",
        "alone": f"one machine is measured on {alone} calls and scaled, ours and the peer's",
        "peer": f"rlms {version}",
        "peer_s": round(peer_s, 1),
        "wall_s": {str(k): round(s, 1) for k, s in took.items()},
        "speedup": {str(k): round(peer_s / s, 2) for k, s in took.items()},
        "efficiency": {str(k): round(peer_s / s / k, 3) for k, s in took.items()},
        "loop_calls": calls,
        "loop_over_batch": round(loop_s / batch_s, 2),
        "missing": missing,
    }


def _root_reply(program: str, calls: int, name: str) -> str:
    return f"```repl\n{program.format(calls=calls, name=name)}\n```"


async def _listed(client: SwarmClient, providers: int) -> None:
    deadline = time.monotonic() + FIND_S
    while (found := sum(not listing.loading for listing in client.directory)) < providers:
        if time.monotonic() > deadline:
            raise UnreachableError(f"only {found} of {providers} providers were seen within {FIND_S:g} s")
        await asyncio.sleep(0.1)
