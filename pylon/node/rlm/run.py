"""Runs `pylon rlm`: puts a question, its context, the swarm, a REPL, a budget and a trajectory together.

The loop runs in the caller's process, and its sub-calls go to the core over the control socket. So a long run does
not slow down a node that serves others, Ctrl-C ends it at once, and the key and the wallet are not in the process
that starts REPLs, unless no other core runs and this process is the core.
"""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pylon.clock import Clock, SystemClock
from pylon.errors import SandboxError
from pylon.jobs import fit
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node.calls.protocol import Node
from pylon.node.home import Home, private_folder
from pylon.node.rlm import parts
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.rlm import runs, strategies
from pylon.rlm.budget import Bound, Estimate, Limits, estimate_map
from pylon.rlm.context import Context, Readable, Shape, from_paths, from_value
from pylon.rlm.loop_state import LoopOutcome, Reason
from pylon.rlm.progress import Tally, told_spent
from pylon.rlm.recorded_run import RecordedRun
from pylon.rlm.repl import known
from pylon.rlm.repl.protocol import MIB, ContextFile, ContextSource
from pylon.rlm.replay import replay
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import Root
from pylon.rlm.run_events import Origin
from pylon.rlm.runs import Run
from pylon.rlm.settings import SubSettings
from pylon.rlm.shared_budget import SharedBudget
from pylon.rlm.strategies import Strategy
from pylon.rlm.sublm import Job, SubLM, SubModels
from pylon.rlm.trajectory import BLOBS, Event, Trajectory
from pylon.sections import Config, RlmSection
from pylon.text import counted


@dataclass(frozen=True, slots=True)
class Question:
    """What a run is asked. `context` holds files, folders, globs, or `-`; if it is empty, `value` is the context.

    With `strategy` None the RLM is used if a root model is configured, and map-reduce otherwise. `wishes` are
    settings of `[rlm]` that override the config file's. With `unsafe` the user allows code to run without a sandbox.
    """

    question: str
    context: tuple[str, ...] = ()
    value: object = ""
    shape: Shape = "auto"
    strategy: Strategy | None = None
    wishes: dict[str, Any] = field(default_factory=dict)
    stdin: Readable | None = None
    unsafe: bool = False


@dataclass(slots=True)
class ActiveRun:
    """A run under way: its settings and parts, and what it has done so far.

    `root` None: it opens its own. `sub` None: its sub-calls go to the swarm. `shared_budget` is one that other runs
    spend from too. `recorded` is its record if the run is resumed.
    """

    section: RlmSection
    strategy: Strategy
    trajectory: Trajectory
    clock: Clock
    tell: Callable[[str], None]
    unsafe: bool
    root: Root | None
    sub: SubLM | None
    shared_budget: SharedBudget | None
    recorded: RecordedRun | None = None
    tally: Tally = field(default_factory=Tally)
    spent: dict[str, int] = field(default_factory=dict)

    def hear(self, event: Event, listener: Callable[[Event, Tally], None] | None) -> None:
        """Counts an event of the trajectory, and passes it to the listener."""
        self.tally.add(event)
        if event["type"] == "final":
            self.spent = event["spent"]
        if listener is not None:
            listener(event, self.tally)


async def ask(
    home: Home,
    config: Config,
    node: Node,
    question: Question,
    *,
    listener: Callable[[Event, Tally], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
    folder: Path | None = None,
    root: Root | None = None,
    sub: SubLM | None = None,
    shared_budget: SharedBudget | None = None,
    prune: bool = True,
) -> dict[str, Any]:
    """Asks a question in a new run. Returns what `pylon rlm --json` prints.

    `listener` hears every event, `tell` what a person may want to know before the run. `folder` is where its
    trajectory goes (`runs.new_run`). `root` is a root model that stays open for other runs; without it the run opens
    its own. `sub` answers the sub-calls in place of the swarm. `shared_budget` is one that other runs spend from too.
    With `prune` older runs are deleted first, as `rlm.keep_runs` says.

    Raises `UsageError`, `SetupError`, `UnreachableError`, `SandboxError`, `ModelError`, `TrajectoryError`; the
    trajectory stays in any case.
    """
    clock = SystemClock()
    section = parts.overridden(config.rlm, question.wishes)
    strategy = parts.strategy_of(section, question.strategy, question.wishes)
    private_folder(home.runs)
    if prune:
        runs.prune(home.runs, section.keep_runs)

    def heard(event: Event) -> None:
        active.hear(event, listener)

    trajectory = Trajectory(folder or runs.new_run(home.runs, clock.wall()), clock, heard)
    active = ActiveRun(section, strategy, trajectory, clock, tell, question.unsafe, root, sub, shared_budget)
    started = clock.monotonic()
    try:
        context = await asyncio.to_thread(_load, question, section, trajectory)
        warnings = context.doubts()
        for doubt in warnings:
            tell(doubt)
        outcome = await execute(home, config, node, question.question, context, active)
    finally:
        _close(trajectory)
    return {**report(outcome, context, active, clock.monotonic() - started), "warnings": warnings}


async def replay_run(home: Home, config: Config, run: Run) -> dict[str, Any]:
    """Replays a run. Returns what `pylon rlm replay --json` prints. Raises `UsageError`, `SandboxError`."""
    clock = SystemClock()
    open_repl = await parts.open_repls(config.rlm, home.cache)
    trajectory = Trajectory(runs.new_run(home.runs, clock.wall()), clock)
    settings = parts.loop_settings(config.rlm, "rlm")
    try:
        made = await replay(run, open_repl, trajectory, clock, settings=settings)
    finally:
        _close(trajectory)
    outcome = made.outcome
    return {
        "id": trajectory.id,
        "replay_of": run.id,
        "answer": outcome.answer,
        "recorded": made.recorded,
        "same": made.same,
        "ended": made.ended,
        "partial": outcome.partial,
        "reason": outcome.reason.value,
    }


async def execute(
    home: Home, config: Config, node: Node, question: str, context: Context, active: ActiveRun
) -> LoopOutcome:
    """Runs an `ActiveRun` to its end, with a REPL, a root and a sub-LM that are made for it here. Raises what `ask`
    raises."""
    section, strategy = active.section, active.strategy
    swarm = SwarmSubLM(node, active.tell, wait_s=section.max_wall_s)
    sub = active.sub or swarm
    models = await sub.describe(section.sub_model or None)
    event_bytes = await swarm.event_bytes()
    # The prompts of a sub-LM of the caller's travel in no event.
    carried = event_bytes if active.sub is None else None
    settings = parts.sub_settings(section, strategy, models, config.customer.timeout_s, carried)
    limits = parts.limits_of(section)
    if active.sub is None:
        await swarm.check(Job("x", model=settings.model, max_tokens=settings.max_tokens))
    open_repl = await parts.open_repls(section, home.cache, unsafe=active.unsafe)
    origin = Origin(strategy, sandbox=open_repl.backend.name, root=parts.about_root(section, strategy))

    async def run(root: Root) -> LoopOutcome:
        rlm = Rlm(
            root, sub, open_repl, active.trajectory, active.clock,
            settings=parts.loop_settings(section, strategy), sub_settings=settings,
            shared_budget=active.shared_budget, recorded=active.recorded,
        )  # fmt: skip
        try:
            outcome = await rlm.run(question, context, limits, origin=origin)
        except SandboxError:
            known.forget(home.cache)
            raise
        return _explained(outcome, active.tally, swarm.hint)

    if strategy == "rlm":
        given = active.root
        opened = parts.open_root(home, config, section, swarm, active.clock, event_bytes)
        async with nullcontext(given) if given else opened as root:
            active.tell(f"root model {root.name}; sub-calls go to {_who(models)}")
            return await run(root)
    active.tell(f"program {strategy}, no root model; sub-calls go to {_who(models)}")
    longest = section.max_prompt_chars
    if carried is not None:
        longest = min(longest, fit.prompt_bytes(carried))
    if strategy == "map-reduce":
        expected = _estimate(sub, question, context, models, settings, limits, longest)
        active.tell(_first_round(expected, limits, Network(config.network).unit))
    return await run(parts.program_root(strategy, question, models, settings, longest))


def _explained(outcome: LoopOutcome, tally: Tally, hint: str) -> LoopOutcome:
    """The outcome, with the swarm's `hint` if a program failed without one. Raises the root's fault if the run had
    done nothing yet: then it is an error of the root model, and not the end of a run."""
    if outcome.fault is not None and not tally.turns and not tally.msat:
        raise outcome.fault.means(outcome.detail, hint=outcome.fault.hint) from outcome.fault
    if outcome.reason is Reason.PROGRAM_FAILED and not outcome.hint:
        return replace(outcome, hint=hint)
    return outcome


def _close(trajectory: Trajectory) -> None:
    trajectory.close()
    if not trajectory.count:
        # No event was written, so there is nothing to show.
        shutil.rmtree(trajectory.folder, ignore_errors=True)


def _load(question: Question, section: RlmSection, trajectory: Trajectory) -> Context:
    """Loads the context, and copies it to the trajectory if it is small enough, so that the run can be replayed."""
    spool = trajectory.folder / "context.given"
    if question.context:
        context = from_paths(question.context, shape=question.shape, spool=spool, stdin=question.stdin)
    else:
        context = from_value(question.value, spool)
    if context.size > section.keep_context_mb * MIB:
        return context
    kept = []
    for file in context.files:
        path = trajectory.folder / BLOBS / file.sha256
        with trajectory.writing():
            shutil.copyfile(file.path, path)
            path.chmod(0o600)
        kept.append(replace(file, path=path))
    spool.unlink(missing_ok=True)
    source = ContextSource(context.source.kind, tuple(ContextFile(file.name, file.path) for file in kept))
    return replace(context, source=source)


def _estimate(
    sub: SubLM,
    question: str,
    context: Context,
    models: SubModels,
    settings: SubSettings,
    limits: Limits,
    longest: int,
) -> Estimate:
    piece, overlap = strategies.piece_bytes(question, models, answer_tokens=settings.max_tokens, prompt_bytes=longest)
    most = sub.most_msat(Job("x" * (piece + 2 * len(question)), max_tokens=settings.max_tokens))
    return estimate_map(context.size, piece=piece, overlap=overlap, most_msat=most, limits=limits)


def _first_round(expected: Estimate, limits: Limits, unit: str) -> str:
    # The answers are asked about again, and failed calls are repeated, so this is no bound of the whole run.
    calls = f"{counted(expected.calls, 'sub-call')}"
    if Bound.CALLS in expected.over:
        calls += f", of which the budget allows {limits.calls:,}"
    money = f"up to {sats_text(expected.msat, unit)}" if expected.msat else "free"
    if Bound.SATS in expected.over:
        money += ", which is over the budget"
    stop = "" if limits.msat is None else f"; the run stops at {sats_text(limits.msat, unit)}"
    return f"first round: about {calls}, {money}; more may follow{stop}"


def _who(models: SubModels) -> str:
    window = f", window {models.context_tokens:,} tokens" if models.context_tokens else ""
    who = f"{', '.join(models.models) or 'plain providers'}{window}, {models.width:,} slots"
    if len(models.models) < 2:
        return who
    return f"{who}\nany of these {len(models.models)} models may answer; use --model to choose one"


def report(outcome: LoopOutcome, context: Context, active: ActiveRun, wall_s: float) -> dict[str, Any]:
    """What `pylon rlm --json` prints of a run that took so many seconds."""
    return {
        "id": active.trajectory.id,
        "answer": outcome.answer,
        "partial": outcome.partial,
        "reason": outcome.reason.value,
        "detail": outcome.detail,
        "hint": outcome.hint,
        "strategy": active.strategy,
        **active.tally.counts,
        "spent": told_spent(active.spent),
        "wall_s": round(wall_s, 3),
        "context_chars": context.chars,
        "context_replaced": context.replaced,
        "trajectory": str(active.trajectory.folder),
    }
