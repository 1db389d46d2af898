"""How near to its floor the exchange of `pylon bench fanout` comes when a program does nothing else.

    python -m benchmarks.bare.run --providers 1000 --jobs 1000 --json
    python -m benchmarks.bare.run --level books

Relay, customer and two groups of providers are processes of their own, and the floor is the one of `pylon bench
fanout`, measured between the maps and after them. `docs/benchmarks.md` says what each figure means.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylon.bench.fanout import MIN_PROCESSES, SPARE_FILES, two_maps, usable_cores
from pylon.bench.processes import Processes, open_processes
from pylon.host.open_files import allow_files

LEVELS = ("wire", "stored", "books")
START_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, at each of the levels; `size` is the bytes of a prompt."""

    providers: int
    jobs: int
    size: int
    levels: tuple[str, ...]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def measure(plan: Plan) -> dict[str, Any]:
    """Runs the exchange at each level; returns the report."""
    allow_files(plan.providers + SPARE_FILES)
    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C does, so that nothing is left running.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    report: dict[str, Any] = {
        "providers": plan.providers, "jobs": plan.jobs, "bytes": plan.size, "cores": usable_cores(),
        "levels": {},
    }  # fmt: skip
    for level in plan.levels:
        async with open_processes("pylon-bare-", "benchmarks.bare") as processes:
            await _set_up(processes, plan, level)
            report["levels"][level] = await _level(processes, plan)
    return report


async def _set_up(processes: Processes, plan: Plan, level: str) -> None:
    books = level == "books"
    processes.relays.append(await processes.start("relay", stored=level != "wire"))
    url = processes.relays[0].hello["url"]
    for number in range(MIN_PROCESSES):
        processes.provider_groups.append(await processes.start("provider", number, books=books))
    shares = [len(range(number, plan.providers, MIN_PROCESSES)) for number in range(MIN_PROCESSES)]
    started = await asyncio.gather(
        *(
            group.call("start", relay=url, providers=share, timeout=START_S)
            for group, share in zip(processes.provider_groups, shares, strict=True)
        )
    )
    processes.customers.append(await processes.start("customer", relay=url, books=books))
    # Alternating, so that both processes always have work.
    keys = [one["keys"][n] for n in range(max(shares)) for one in started if n < len(one["keys"])]
    await processes.customers[0].call("meet", keys=keys)
    await processes.relays[0].call("settle")


async def _level(processes: Processes, plan: Plan) -> dict[str, Any]:
    _, _, sizes, figures = await two_maps(processes, plan.jobs, plan.size, say)
    senders = (*processes.provider_groups, *processes.customers)
    refused = sum([(await sender.call("acknowledged"))["refused"] for sender in senders])
    return {"refused": refused, **figures, "message_bytes": [sizes.request_message, sizes.result_message]}


def _table(report: dict[str, Any]) -> str:
    names = (
        "wall_s", "floor_s", "ratio", "cpu_ratio", "strict_ratio", "warm_wall_s", "warm_ratio",
        "relay_cpu_s", "customer_cpu_s", "providers_cpu_s", "completed",
    )  # fmt: skip
    lines = ["".join((f"{'':16}", *(f"{level:>9}" for level in report["levels"])))]
    lines += [
        "".join((f"{name:16}", *(f"{level[name]:>9}" for level in report["levels"].values()))) for name in names
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--providers", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--bytes", type=int, default=300, dest="size")
    parser.add_argument("--level", choices=LEVELS, action="append", help="only this; may be repeated")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    levels = tuple(level for level in LEVELS if not options.level or level in options.level)
    # Only Pylon is installed: the processes find this package in the checkout.
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    report = asyncio.run(measure(Plan(options.providers, options.jobs, options.size, levels)))
    print(json.dumps(report) if options.json else _table(report))
    if any(level["completed"] != options.jobs for level in report["levels"].values()):
        raise SystemExit("some jobs got no right answer")


if __name__ == "__main__":
    main()
