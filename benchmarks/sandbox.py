"""The cost of a sandbox: memory for a long context, time to start, speed of code.

    python -m benchmarks.sandbox --json

Memory is the sum of the peaks of this process and its child, above the same run on 1 KB. Times are ratios within one
run: to the start of a bare Python, and to the same cell without a sandbox.
"""

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from pylon.rlm.repl.backends import PROCESS, UNSAFE, wasm
from pylon.rlm.repl.host import ChildRepl
from pylon.rlm.repl.life import Backend
from pylon.rlm.repl.protocol import MIB, CellLimits, ContextFile, ContextSource, SubCalls, SubReply

LINE = "2024-05-17 || a line of no importance at all, like so many others\n"
SEARCH = "at = context.find('needle')\nprint(at, len(context), llm_query(context[at : at + 20]))"
COMPUTE = "total = 0\nfor n in range(300_000):\n    total += n % 7\nprint(total)"


async def echo(calls: SubCalls) -> list[SubReply]:
    return [SubReply(prompt) for prompt in calls.prompts]


class Peak:
    """Samples the resident memory of this process and its children."""

    def __init__(self) -> None:
        self.most_bytes = 0
        self._task = asyncio.create_task(self._sample())

    async def _sample(self) -> None:
        while True:
            processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
            total = 0
            for process in processes:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.most_bytes = max(self.most_bytes, total)
            await asyncio.sleep(0.005)

    def stop(self) -> int:
        self._task.cancel()
        return self.most_bytes


async def memory(backend: Backend, path: Path) -> int:
    """The peak, in bytes, of a REPL that searches the file and asks once."""
    peak = Peak()
    repl = ChildRepl(backend)
    try:
        await repl.open(
            ContextSource("text", (ContextFile("context", path),)), CellLimits(memory_bytes=256 * MIB), echo
        )
        outcome = await repl.run(SEARCH)
        if outcome.error is not None:
            raise SystemExit(outcome.error.text)
    finally:
        await repl.close()
    return peak.stop()


async def times(backend: Backend, path: Path) -> tuple[float, float]:
    """Seconds to start, seconds for a computing cell."""
    repl = ChildRepl(backend)
    try:
        began = time.monotonic()
        await repl.open(ContextSource("text", (ContextFile("context", path),)), CellLimits(), echo)
        started = time.monotonic() - began
        return started, (await repl.run(COMPUTE)).seconds
    finally:
        await repl.close()


def bare_python() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - began


async def measure(characters: int, repeats: int) -> dict[str, object]:
    result: dict[str, object] = {"machine": f"{platform.system()} {platform.machine()}", "characters": characters}
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        small.write_text(LINE * 16)
        with large.open("w") as file:
            for _ in range(characters // len(LINE) // 2):
                file.write(LINE)
            file.write("needle in the middle")
            while file.tell() < characters:
                file.write(LINE[: characters - file.tell()])
        cache = Path(folder) / "cache"
        cache.mkdir()
        for backend in [wasm(cache), PROCESS] if platform.system() == "Linux" else [wasm(cache)]:
            low = await memory(backend, small)
            above = await memory(backend, large) - low
            starts, starts_bare, runs, runs_free = [], [], [], []
            for _ in range(repeats):
                starts_bare.append(bare_python())
                runs_free.append((await times(UNSAFE, small))[1])
                start, run = await times(backend, small)
                starts.append(start)
                runs.append(run)
            result[backend.name] = {
                "memory_per_character": round(above / characters, 2),
                "start_per_python_start": round(min(starts) / min(starts_bare), 1),
                "loop_per_unsandboxed_loop": round(min(runs) / min(runs_free), 1),
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=40_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(options.characters, options.repeats)), indent=None if options.json else 2))


if __name__ == "__main__":
    main()
