"""Resumes a run that was interrupted, or whose budget was too small (`pylon rlm resume`)."""

import asyncio
from collections.abc import Callable
from typing import Any

from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.node.calls.protocol import Node
from pylon.node.home import Home
from pylon.node.rlm import parts
from pylon.node.rlm import run as rlm
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.rlm.progress import Tally
from pylon.rlm.recorded_run import RecordedRun
from pylon.rlm.repl.protocol import MIB
from pylon.rlm.replay import recorded_cell, recorded_context
from pylon.rlm.resume_plan import ResumePlan, raised_bounds, resume_plan
from pylon.rlm.runs import Run, answer_of, summary
from pylon.rlm.sublm import SubLM
from pylon.rlm.trajectory import EVENTS, Event, Trajectory
from pylon.sections import Config, RlmSection
from pylon.text import counted

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
    """Resumes a run. Returns what `pylon rlm --json` prints of it, and `resumed`: whether anything was left to do.

    The run keeps its settings; `wishes` are settings of `[rlm]` that override them. If its code behaves differently
    from what is recorded, with `go_on` it continues live from there; otherwise raises `DiffersError` and leaves the
    run as it was. Raises `UsageError` for a run that cannot be resumed, or not with these limits, and what `run.ask`
    raises.
    """
    clock = SystemClock()
    active: rlm.ActiveRun

    def heard(event: Event) -> None:
        active.hear(event, listener)

    # Locked before it is read: otherwise another process could still change what was read.
    trajectory = Trajectory.resume(run.folder, clock, heard)
    try:
        recorded = await asyncio.to_thread(RecordedRun, run, go_on=go_on)
        begun = recorded.record.begun
        _check(run, begun, unsafe=unsafe, own=sub is not None)
        section = parts.overridden(_settings(config.rlm, run, begun), wishes)
        parts.check_root(section, begun["strategy"], wishes)
        plan = _plan(run, recorded, section)
        if plan is not ResumePlan.NOTHING_LEFT:
            context = await asyncio.to_thread(recorded_context, run, begun)
            active = rlm.ActiveRun(
                section, begun["strategy"], trajectory, clock, tell, unsafe, root=None, sub=sub, shared_budget=None,
                recorded=recorded,
            )  # fmt: skip
            started = clock.monotonic()
            tell(_resumed_line(recorded))
            question = run.required_text(begun["question"], "the question")
            outcome = await rlm.execute(home, config, node, question, context, active)
    finally:
        trajectory.close()
    if plan is ResumePlan.NOTHING_LEFT:
        return _whole_report(run, recorded)
    report = rlm.report(outcome, context, active, clock.monotonic() - started)
    return {**report, "warnings": [], "resumed": True}


def _plan(run: Run, recorded: RecordedRun, section: RlmSection) -> ResumePlan:
    """What is left to do with these settings; takes the loops back if bounds are raised. Raises `UsageError`."""
    record, limits = recorded.record, parts.limits_of(section)
    plan = resume_plan(run.id, record, limits, section.turns)
    if plan is ResumePlan.GO_BACK:
        codes = {f"budget_{bound}" for bound in raised_bounds(record, limits)}
        recorded.go_back({*codes, "budget", *(["turns"] if section.turns > record.begun["turns"] else [])})
    return plan


def _check(run: Run, begun: Event, *, unsafe: bool, own: bool) -> None:
    """Checks that a run of this kind can be resumed; `own` tells that the caller has a sub-LM of its own. Raises
    `UsageError`."""
    if begun.get("replay_of") is not None:
        raise UsageError(
            f"run {run.id} is a replay and cannot be resumed",
            hint=f"To continue the run itself: `pylon rlm resume {begun['replay_of']}`.",
        )
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
    """The settings that a run had, from its `run` event. The root's address, key and window are today's. Raises
    `UsageError` where the event lacks something."""
    limits, root, sub = begun["limits"], begun["root"], begun["sub"]
    # A replay needs none of these, so the record may be valid without them.
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


def _whole_report(run: Run, recorded: RecordedRun) -> dict[str, Any]:
    """The report of a run that has a whole answer already."""
    end = recorded.record.ended or {}
    told = {name: end[name] for name in ("partial", "reason", "detail", "hint")}
    where: dict[str, Any] = {
        "answer": answer_of(run),
        "warnings": [],
        "trajectory": str(run.folder),
        "resumed": False,
    }
    return {**summary(run), **told, **where}


def _resumed_line(recorded: RecordedRun) -> str:
    """What a person is told when a run is resumed."""
    spent, lost = recorded.spent, recorded.record.lost
    again = f"; {counted(lost, 'sub-call')} {'was' if lost == 1 else 'were'} unanswered, and will be asked again"
    out = again if lost else ""
    return f"resumed after {counted(spent.turns, 'turn')} and {counted(spent.calls, 'sub-call')}{out}"
