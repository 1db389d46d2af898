"""Runs the tasks with any root model, sub-model and seeds; reports scores, calls, tokens of both models, and sats.

    python -m benchmarks.rlm.run --seeds 5 --json                       # no model at all: script and stand-in
    python -m benchmarks.rlm.run --root-url http://127.0.0.1:8080/v1 --root-model NAME
    python -m benchmarks.rlm.run --sub swarm                            # sub-calls to the swarm, through PYLON_HOME

`scripted` is a root that is no model: it says the program that `programs.py` has for the task. `stand-in` is a
sub-model that is no model: it knows the templates and errs at the rate of `--error`. Their scores say that the loop
works, and what wrong sub-answers cost.
Tokens are as models count them; script and stand-in count four characters as one, and so does the direct call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.rlm import hops, niah, oolong, pairs, programs, stand_in
from benchmarks.rlm.task import Task
from pylon.clock import SystemClock
from pylon.errors import PylonError
from pylon.node.home import open_home
from pylon.node.rlm import parts as rlm_parts
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.node.session import open_node
from pylon.rlm import runs
from pylon.rlm.budget import Limits
from pylon.rlm.context import from_value
from pylon.rlm.endpoint import OpenAIRoot, read_key
from pylon.rlm.progress import Tally
from pylon.rlm.repl.protocol import Repl
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import Root, ScriptedRoot
from pylon.rlm.settings import SubSettings
from pylon.rlm.sublm import FunctionSubLM, SubLM
from pylon.rlm.trajectory import Trajectory
from pylon.sections import RlmSection

KINDS: dict[str, Callable[[random.Random, int], list[Task]]] = {
    "s-niah": lambda rng, chars: [niah.make(rng, chars, kind) for kind in niah.HAYS],
    "oolong": oolong.make,
    "oolong-pairs": pairs.make,
    "multi-hop": lambda rng, chars: [hops.make(rng, chars)],
}
CHARS_PER_TOKEN = 4
ANSWER_TOKENS = 1_024


@dataclass(frozen=True)
class Row:
    """The outcome of one task."""

    kind: str
    name: str
    score: float
    partial: bool
    calls: int
    failed: int
    root_tokens: int
    sub_tokens: int
    direct_tokens: int
    msat: int


@dataclass(frozen=True)
class Bench:
    """What all runs share. `root_of` returns the root model for a task."""

    root_of: Callable[[Task], Root]
    sub: SubLM
    open_repl: Callable[[], Repl]
    limits: Limits

    async def run(self, task: Task, folder: Path) -> Row:
        """Runs one task. A root model that fails scores 0. Raises `PylonError` without a sub-model or sandbox."""
        clock, tally = SystemClock(), Tally()
        trajectory = Trajectory(runs.new_run(folder, clock.wall()), clock, tally.add)
        root = self.root_of(task)
        try:
            context = from_value(task.context, trajectory.folder / "context")
            rlm = Rlm(
                root, self.sub, self.open_repl, trajectory, clock, sub_settings=SubSettings(max_tokens=ANSWER_TOKENS)
            )
            outcome = await rlm.run(task.question, context, self.limits)
        finally:
            trajectory.close()
            await root.close()
        answer = outcome.answer or ""
        direct = (len(task.context) + len(task.question) + len(task.gold)) // CHARS_PER_TOKEN
        return Row(
            task.kind, task.name, task.score(answer), outcome.partial, tally.sent, tally.failed + tally.refused,
            tally.root_tokens, tally.sub_tokens, direct, tally.msat,
        )  # fmt: skip


def tasks(kinds: list[str], seeds: int, chars: int) -> Iterator[Task]:
    """The same for the same arguments."""
    for seed in range(seeds):
        for kind in kinds:
            yield from KINDS[kind](random.Random(f"{kind} {seed}"), chars)


def summed(rows: list[Row]) -> dict[str, object]:
    """Means over the tasks of one kind; tokens and calls are those of one task."""
    count = len(rows)

    def mean(name: str) -> float:
        return round(float(sum(getattr(row, name) for row in rows)) / count, 1)

    root, sub, direct = (sum(getattr(row, f"{name}_tokens") for row in rows) for name in ("root", "sub", "direct"))
    return {
        "tasks": count,
        "score": round(100 * sum(row.score for row in rows) / count, 1),
        "partial": sum(row.partial for row in rows),
        "failed": sum(row.failed for row in rows),
        "calls": mean("calls"),
        "root_tokens": mean("root_tokens"),
        "sub_tokens": mean("sub_tokens"),
        "direct_tokens": mean("direct_tokens"),
        "tokens_by_direct": round((root + sub) / direct, 2),
        "sats": round(sum(row.msat for row in rows) / count / 1_000, 3),
    }


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """The report: who answered, and a row for each kind of task."""
    rows: list[Row] = []
    async with _sub(options) as sub:
        limits = Limits(
            msat=options.sats * 1_000, calls=options.calls, wall_s=options.seconds, depth=0, prompt_chars=100_000
        )
        with tempfile.TemporaryDirectory(prefix="pylon-rlm-") as folder:
            open_repl = await rlm_parts.open_repls(RlmSection(), Path(folder, "cache"))
            bench = Bench(partial(_root, options), sub, open_repl, limits)
            for task in tasks(options.task, options.seeds, options.chars):
                rows.append(await bench.run(task, Path(folder, "runs")))
                print(f"{task.kind} {task.name}: {rows[-1].score:.2f}", file=sys.stderr)
    stands_in = options.sub == "stand-in"
    return {
        "root": options.root_model or "scripted (no model)",
        "sub": f"{stand_in.NAME} (no model), error rate {options.error:g}" if stands_in else "the swarm",
        "seeds": options.seeds,
        "chars": options.chars,
        "tasks": {kind: summed([row for row in rows if row.kind == kind]) for kind in options.task},
    }


def _root(options: argparse.Namespace, task: Task) -> Root:
    if not options.root_url:
        return ScriptedRoot(programs.turns(task))
    key = read_key(Path(options.root_key_file)) if options.root_key_file else ""
    return OpenAIRoot(options.root_url, options.root_model, options.root_context, 4_096, key=key)


@asynccontextmanager
async def _sub(options: argparse.Namespace) -> AsyncIterator[SubLM]:
    if options.sub == "stand-in":
        yield FunctionSubLM(stand_in.StandIn(error=options.error), name=stand_in.NAME)
        return
    home, config = open_home()
    async with open_node(home, config) as node:
        yield SwarmSubLM(node)


def main() -> int:
    """The entry point of the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", choices=list(KINDS), help="one kind (default: all)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--chars", type=int, default=20_000, help="length of each context")
    parser.add_argument("--root-url", default="", help="an OpenAI-shaped endpoint (default: the script)")
    parser.add_argument("--root-model", default="")
    parser.add_argument("--root-context", type=int, default=128_000, help="its window in tokens")
    parser.add_argument("--root-key-file", default="")
    parser.add_argument("--sub", choices=["stand-in", "swarm"], default="stand-in")
    parser.add_argument("--error", type=float, default=0.0, help="the stand-in's share of wrong labels")
    parser.add_argument("--calls", type=int, default=2_000, help="the most sub-calls of a task")
    parser.add_argument("--sats", type=int, default=1_000, help="the most sats of a task")
    parser.add_argument("--seconds", type=float, default=900.0, help="the most seconds of a task")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.task = options.task or list(KINDS)
    if bool(options.root_url) != bool(options.root_model):
        parser.error("--root-url and --root-model go together")
    try:
        report = asyncio.run(measure(options))
    except PylonError as error:
        print(f"{error}\n  {error.hint}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=None if options.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
