"""The program of `scripts/demo`: its options, its folder, and its exit status."""

import argparse
import asyncio
import importlib.util
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from pylon.bench.local_swarm import LocalSwarm
from pylon.errors import PylonError
from tools import demo
from tools.demo.parties import CUSTOMER, Money, real_lightning
from tools.demo.runs import Demo, Plan, holds
from tools.demo.say import err
from tools.demo.show import show, show_many

INTERRUPTED = 130


def main() -> int:
    """0 when the planted fact was found, every sub-call was answered, every result holds and all books agree."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="pylon-demo-"))
    try:
        report = asyncio.run(_demo(arguments, folder))
    except PylonError as error:
        err.print(f"demo: {error}\n  {error.hint or f'Logs are in {folder}.'}", style="red")
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(folder, ignore_errors=True)
        return INTERRUPTED
    if arguments.json:
        sys.stdout.write(orjson.dumps(report).decode() + "\n")
    else:
        (show_many if arguments.seeds > 1 else show)(report)
    if not arguments.keep:
        _leave_trajectories(folder)
        err.print(f"Look at it: PYLON_HOME={folder / CUSTOMER} .venv/bin/pylon rlm list", style="dim")
    return 0 if holds(report) else 1


def _arguments() -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(demo.__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="leave relay and providers running")
    parser.add_argument(
        "--lightning", action="store_true", help="pay over real Lightning on a private chain (see scripts/regtest)"
    )
    parser.add_argument("--chars", type=int, default=plan.chars, help=f"length of the text (default {plan.chars})")
    parser.add_argument("--seed", type=int, default=plan.seed, help="where which fact is planted (default 1)")
    parser.add_argument(
        "--seeds", type=int, default=plan.seeds, help="ask as many questions, and count right answers"
    )
    parser.add_argument("--slots", type=int, default=plan.slots, help="jobs that a provider runs at once")
    arguments = parser.parse_args()
    for name, least in (("chars", 1_000), ("seeds", 1), ("slots", 1)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} is at least {least}")
    if importlib.util.find_spec("mlx_lm") is None:
        parser.error("the MLX engine is not installed; run scripts/setup")
    return arguments


async def _demo(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    # SIGTERM cancels the task, as Ctrl-C does, so that nothing is left running.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    swarm, kept = LocalSwarm(folder), False
    try:
        money = real_lightning() if arguments.lightning else Money()
        plan = Plan(arguments.chars, arguments.seed, arguments.seeds, arguments.slots)
        shown = Demo(swarm, plan, money)
        report = await (shown.many() if plan.seeds > 1 else shown.one())
        kept = arguments.keep
        if kept:
            _tell_how_to_connect(swarm, folder)
        return report
    finally:
        if not kept:
            await swarm.close()


def _leave_trajectories(folder: Path) -> None:
    """Deletes keys, wallets, databases and logs; the customer's trajectories and settings stay."""
    for path in folder.iterdir():
        if path.name == CUSTOMER:
            for inner in path.iterdir():
                if inner.name not in ("config.toml", "runs"):
                    _remove(inner)
        else:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _tell_how_to_connect(swarm: LocalSwarm, folder: Path) -> None:
    pids = " ".join(str(process.pid) for process in swarm.processes)
    err.print(f"\nLeft running: relay {swarm.relay}, processes {pids}, homes in {folder}")
    err.print("As their customer, in this folder:")
    err.print(f"  export PYLON_HOME={folder / CUSTOMER} PYLON_RELAYS='[\"{swarm.relay}\"]'")
    err.print("  .venv/bin/pylon providers")
    err.print(f"End them: kill {pids}")


if __name__ == "__main__":
    sys.exit(main())
