"""`pylon rlm resume`: a run that was interrupted, or had too small a budget, goes on where it was."""

import asyncio
from collections.abc import Callable
from typing import Any

from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.node.calls.control import Node
from pylon.node.home import Home
from pylon.node.rlm import parts as parts
from pylon.node.rlm import run as rlm
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.rlm.earlier import Earlier
from pylon.rlm.left_to_do import LeftToDo, left_to_do, raised
from pylon.rlm.progress import Tally
from pylon.rlm.repl.protocol import MIB
from pylon.rlm.replay import recorded_cell, recorded_context
from pylon.rlm.runs import Run, answer_of, summary
from pylon.rlm.sublm import SubLM
from pylon.rlm.trajectory import EVENTS, Event, Trajectory
from pylon.sections import Config, RlmSection

_UNSAFE = "unsafe"


async def resume(
    home: Home,
    config: Config,
    node: Node,
    run: Run,
    wishes: dict[str, Any],
    *,
    go_on: bool = False,
    unsafe: bool = False,
    listener: Callable[[Event, Tally], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
    sub: SubLM | None = None,
) -> dict[str, Any]:
    """What `pylon rlm --json` prints of it, and `resumed`: whether there was anything left to do.

    It has the settings that it had; `wishes` are settings of `[rlm]` that stand over them. With `go_on` it goes on
    from where its code does something else than it did; otherwise that is a `DiffersError`, and the run stays as it
    was. Raises `UsageError` for a run that cannot be taken up, or not with these limits, and what `run.ask` does.
    """
    clock = SystemClock()
    earlier = await asyncio.to_thread(Earlier, run, go_on=go_on)
    begun = earlier.lives.begun
    _check(run, begun, unsafe=unsafe, own=sub is not None)
    section = parts.overridden(_settings(config.rlm, run, begun), wishes)
    parts.check_root(section, begun["strategy"], wishes)
    limits = parts.limits_of(section)
    left = left_to_do(run.id, earlier.lives, limits, section.turns)
    if left is LeftToDo.NOTHING:
        return _whole(run, earlier)
    if left is LeftToDo.BACK:
        codes = {f"budget_{bound}" for bound in raised(earlier.lives, limits)}
        earlier.more({*codes, "budget", *(["turns"] if section.turns > begun["turns"] else [])})
    work: rlm.Work

    def heard(event: Event) -> None:
        work.hear(event, listener)

    context = await asyncio.to_thread(recorded_context, run, begun)
    trajectory = Trajectory.again(run.folder, clock, heard)
    work = rlm.Work(
        section, begun["strategy"], trajectory, clock, tell, unsafe, root=None, sub=sub, purse=None, earlier=earlier
    )
    started = clock.monotonic()
    try:
        tell(_taken_up(earlier))
        outcome = await rlm.go(home, config, node, run.needed(begun["question"], "the question"), context, work)
    finally:
        trajectory.close()
    report = rlm.report(outcome, context, work, clock.monotonic() - started)
    return {**report, "warnings": [], "resumed": True}


def _check(run: Run, begun: Event, *, unsafe: bool, own: bool) -> None:
    if begun.get("replay_of") is not None:
        raise UsageError(f"run {run.id} is a replay and cannot be resumed")
    if begun.get("shared"):
        raise UsageError(
            f"run {run.id} belongs to a set with one shared budget",
            hint="Resume the whole set: `pylon rlm --questions … --resume REPORTS`.",
        )
    if begun["sub"]["name"] != SwarmSubLM.name and not own:
        raise UsageError(
            f"the sub-calls of run {run.id} went to {begun['sub']['name']!r} of a program, not to the swarm",
            hint="Resume it with `RlmClient.resume` and that `sub`.",
        )
    if begun.get("sandbox") == _UNSAFE and not unsafe:
        raise UsageError(
            f"the code of run {run.id} ran without a sandbox, and would again",
            hint="Add --unsafe-local-repl to allow that.",
        )


def _settings(section: RlmSection, run: Run, begun: Event) -> RlmSection:
    """The settings that a run had, as far as it tells them; a root's address, key and window are today's."""
    limits, root, sub = begun["limits"], begun["root"], begun["sub"]
    # What could be replayed without these cannot go on without them.
    needed = {"kind", "model", "temperature", "max_tokens", "tier"} if begun["strategy"] == "rlm" else set()
    if lacks := sorted(needed - root.keys()) or [name for name in ("cell",) if name not in begun]:
        raise UsageError(
            f"the `run` event in {run.folder / EVENTS} lacks {', '.join(lacks)}",
            hint="Restore that file from a backup, or ask the question again.",
        )
    cell = recorded_cell(run, begun)
    had: dict[str, Any] = {
        "max_sats": None if limits["msat"] is None else limits["msat"] // 1_000,
        "max_calls": limits["calls"],
        "max_tokens": limits["tokens"] or 0,
        "max_wall_s": limits["wall_s"],
        "max_depth": limits["depth"],
        "max_prompt_chars": limits["prompt_chars"],
        "max_root_turns": limits.get("turns"),
        "sub_model": sub["model"] or "",
        "sub_max_tokens": sub["max_tokens"],
        "sub_temperature": sub["temperature"],
        "seed": -1 if sub.get("seed") is None else sub["seed"],
        "cell_memory_mb": max(16, cell.memory_bytes // MIB),
    }
    if begun.get("sandbox") in ("wasm", "process"):
        had["sandbox"] = begun["sandbox"]
    if begun["strategy"] == "rlm":
        temperature = root["temperature"]
        had |= {
            "root": root["kind"],
            "root_model": root["model"],
            "root_temperature": -1.0 if temperature is None else temperature,
            "root_max_tokens": section.root_max_tokens if root["kind"] == "swarm" else root["max_tokens"],
            "prompt": root["tier"],
            "turns": begun["turns"],
            "cell_s": cell.seconds,
        }
    return parts.overridden(section, had)


def _whole(run: Run, earlier: Earlier) -> dict[str, Any]:
    end = earlier.lives.ended or {}
    told = {name: end[name] for name in ("partial", "reason", "detail", "hint", "spent")}
    where: dict[str, Any] = {
        "answer": answer_of(run),
        "warnings": [],
        "trajectory": str(run.folder),
        "resumed": False,
    }
    return {**summary(run), **told, **where}


def _taken_up(earlier: Earlier) -> str:
    spent, lost = earlier.spent, earlier.lives.lost
    out = (
        (f"; {_counted(lost, 'sub-call')} {'was' if lost == 1 else 'were'} unanswered, and will be asked again")
        if lost
        else ""
    )
    return f"resumed after {_counted(spent.turns, 'turn')} and {_counted(spent.calls, 'sub-call')}{out}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
