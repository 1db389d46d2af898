"""`pylon bench rlm --memory`: the peak memory of a whole run of `pylon rlm`, by the length of its text.

Relay, provider, customer, REPL and trajectory are the shipped ones. A stand-in replaces the model, and the program
`search` the root model. No node runs in the customer's home, so the command holds the whole run itself.
"""

import asyncio
from typing import Any

import psutil

from pylon.bench.fanout import Say
from pylon.bench.local_swarm import LocalSwarm, local_swarm
from pylon.bench.planted_fact import make_task

MIB = 1024 * 1024
LEAST_CHARS = 1_000
_LOOK_S = 0.01


async def bench(chars: int, say: Say) -> dict[str, Any]:
    """Measures texts of 1,000 and of `chars` characters; returns the report. It leaves no process and no file.

    Raises `PylonError`.
    """
    async with local_swarm("pylon-rlm-memory-") as swarm:
        await swarm.open_relay()
        stand_in = {"PYLON_INFERENCE__ENGINE": "instant"}
        provider, customer = swarm.environment("provider", **stand_in), swarm.environment("customer", **stand_in)
        for env in (provider, customer):
            await swarm.run("init", env=env)
        await swarm.serve("start", env=provider, log="provider.log")
        await swarm.wait_for_providers(1, customer)
        # The first run of a home unpacks the sandbox.
        await _peak(swarm, customer, LEAST_CHARS)
        small = await _peak(swarm, customer, LEAST_CHARS)
        say(f"{LEAST_CHARS:,} characters: {small[0] / MIB:,.0f} MB at the most")
        large = await _peak(swarm, customer, chars)
        say(f"{chars:,} characters: {large[0] / MIB:,.0f} MB at the most")
    return {
        "chars": chars,
        "compute": "a model: a stand-in answers at once, and the program `search` is in a root's place",
        "calls": large[2]["calls"],
        "failed": large[2]["failed"],
        "small_mib": round(small[0] / MIB, 1),
        "large_mib": round(large[0] / MIB, 1),
        "memory_by_text": round((large[0] - small[0]) / large[1], 2),
    }


async def _peak(swarm: LocalSwarm, env: dict[str, str], chars: int) -> tuple[int, int, dict[str, Any]]:
    """The most bytes that a run and its children held together, the bytes of its text, and its report."""
    task = make_task(chars, seed=1)
    file = swarm.folder / "text.txt"
    file.write_text(task.text, encoding="utf-8")
    before = {child.pid for child in psutil.Process().children()}
    run = asyncio.create_task(
        swarm.run("rlm", task.question, "--context", str(file), "--strategy", "search", env=env)
    )
    most = 0
    while not run.done():
        await asyncio.wait([run], timeout=_LOOK_S)
        started = [child for child in psutil.Process().children() if child.pid not in before]
        most = max(most, sum(map(_held, started)))
    return most, file.stat().st_size, await run


def _held(process: psutil.Process) -> int:
    """Resident bytes of a process and its children; 0 if it has ended."""
    held = 0
    try:
        for one in (process, *process.children(recursive=True)):
            held += one.memory_info().rss
    except psutil.Error:
        pass
    return held
