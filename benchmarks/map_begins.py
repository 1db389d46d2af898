"""What a large map costs the node that starts it: how long other calls wait for an answer, and memory.

    python -m benchmarks.map_begins --json

A relay, a node that serves by a stand-in engine, and `pylon map` of many short prompts, a process each. Meanwhile the
node is asked for its status again and again. With `--whole` the run goes to its end; without, it is ended (SIGTERM)
some seconds after its first job is computed, so that what is seen is its beginning and how it is taken back.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pylon.errors import UnreachableError
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home

ASK_EVERY_S = 0.02
MIB = 1024 * 1024


def environment(home: Path, relay: str, delay_s: float) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYLON_")}
    return {
        **kept,
        "PYLON_HOME": str(home),
        "PYLON_RELAYS": json.dumps([relay]),
        "PYLON_INFERENCE__ENGINE": "instant",
        "PYLON_INFERENCE__INSTANT_DELAY_S": str(delay_s),
        "PYLON_OWNER__RULES": "false",
        "PYLON_CUSTOMER__CHECK_SHARE": "0",
    }


async def spawn(*arguments: str, env: dict[str, str], stdout: int) -> asyncio.subprocess.Process:
    program = "from pylon.cli.main import main; main()"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", program, *arguments, env=env, stdout=stdout, stderr=asyncio.subprocess.DEVNULL
    )


async def serve(*arguments: str, env: dict[str, str], stack: AsyncExitStack) -> tuple[int, dict[str, Any]]:
    """Starts a command that keeps running; returns its process and the JSON object that it prints first."""
    process = await spawn(*arguments, "--json", env=env, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 120)

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process.pid, json.loads(line)


@dataclass
class Watch:
    """Asks a node for its status again and again, and samples its memory and that of a command."""

    socket: Path
    processes: dict[str, psutil.Process]
    worst_ms: dict[str, float] = field(default_factory=dict)
    most_mib: dict[str, float] = field(default_factory=dict)
    stage: str = "is idle"
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while True:
            began, stage = time.perf_counter(), self.stage
            try:
                seen = await result_of(RemoteNode(self.socket), "status")
            except UnreachableError:
                return
            waited = 1_000 * (time.perf_counter() - began)
            self.worst_ms[stage] = round(max(self.worst_ms.get(stage, 0.0), waited), 1)
            if seen["provider"]["running"]:
                self.begun.set()
            for name, process in self.processes.items():
                try:
                    now = process.memory_info().rss / MIB
                except psutil.Error:
                    continue
                self.most_mib[name] = round(max(self.most_mib.get(name, 0.0), now))
            await asyncio.sleep(ASK_EVERY_S)


def prompts(file: Path, jobs: int, characters: int) -> None:
    with file.open("w", encoding="utf-8") as stream:
        for number in range(jobs):
            stream.write(json.dumps({"prompt": f"question {number} ".ljust(characters, "x")}) + "\n")


async def measure(jobs: int, characters: int, after_s: float, *, whole: bool) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file, home = folder / "prompts.jsonl", folder / "home"
        prompts(file, jobs, characters)
        _, relay = await serve(
            "relay", "--port", "0", env=environment(folder / "relay", "ws://127.0.0.1:9", 0), stack=stack
        )
        env = environment(home, relay["url"], 0 if whole else 600)
        await (await spawn("init", env=env, stdout=asyncio.subprocess.DEVNULL)).wait()
        node, _ = await serve("start", env=env, stack=stack)
        socket = Home(home, "play").socket
        # Once before: what a node loads for its first such call does not depend on the size of the map.
        await result_of(RemoteNode(socket), "providers", {"wait_s": 0})
        watch = Watch(socket, {"node": psutil.Process(node)})
        asking = asyncio.create_task(watch.run())
        await asyncio.sleep(after_s)
        watch.stage = "begins"
        map_ = await spawn(
            "map", str(file), "-o", str(folder / "out.jsonl"), env=env, stdout=asyncio.subprocess.DEVNULL
        )
        began = time.perf_counter()
        watch.processes["command"] = psutil.Process(map_.pid)
        await asyncio.wait_for(watch.begun.wait(), 300)
        first_job_s = time.perf_counter() - began
        await asyncio.sleep(after_s)
        if whole:
            watch.stage = "runs"
        else:
            watch.stage = "is taken back"
            map_.send_signal(signal.SIGTERM)
        await map_.wait()
        wall_s = time.perf_counter() - began
        await asyncio.sleep(1)
        asking.cancel()
        return {
            "jobs": jobs,
            "characters": characters,
            "exit_code": map_.returncode,
            "first_job_s": round(first_job_s, 1),
            "wall_s": round(wall_s, 1),
            "worst_status_ms": watch.worst_ms,
            "most_mib": watch.most_mib,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=250_000)
    parser.add_argument("--characters", type=int, default=100)
    parser.add_argument("--after", type=float, default=5.0, help="seconds that the run has after its first job")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measured = asyncio.run(measure(options.jobs, options.characters, options.after, whole=options.whole))
    print(json.dumps(measured, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
