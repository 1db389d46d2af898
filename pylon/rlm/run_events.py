"""Writes the first and the last event of a run: `run`, what it was asked and given, and `final`, how it ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pylon import __version__
from pylon.rlm import prompts
from pylon.rlm.budget import Budget, Limits
from pylon.rlm.context import Context, readable
from pylon.rlm.loop_state import LoopOutcome
from pylon.rlm.root import Root
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import SubModels
from pylon.rlm.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Origin:
    """What the `run` event says besides the settings: the strategy, the run that this one replays, the sandbox, and
    more about the root (temperature, address, seed)."""

    strategy: str = "rlm"
    replay_of: str | None = None
    sandbox: str = ""
    root: Mapping[str, object] = field(default_factory=dict)


def write_run(
    trajectory: Trajectory,
    question: str,
    context: Context,
    limits: Limits,
    origin: Origin,
    *,
    root: Root,
    settings: LoopSettings,
    sub_name: str,
    models: SubModels,
    sub_settings: SubSettings,
    before: Mapping[str, object] | None = None,
    shared: bool = False,
) -> None:
    """Writes the `run` event. `before` is what was spent when the run was resumed; `shared` tells that other runs
    spend from its budget too. Raises `TrajectoryError`."""
    trajectory.write(
        "run",
        id=trajectory.id,
        question=trajectory.text(question),
        strategy=origin.strategy,
        replay_of=origin.replay_of,
        version=__version__,
        root={
            **origin.root,
            "name": root.name,
            "context_tokens": root.context_tokens,
            "max_tokens": root.max_tokens,
            "tier": prompts.tier_of(settings.tier, root.context_tokens),
        },
        sandbox=origin.sandbox,
        cell=asdict(settings.cell),
        sub={"name": sub_name, **asdict(models), **asdict(sub_settings)},
        limits=asdict(limits),
        turns=settings.turns,
        before=before,
        shared=shared,
        context={
            "kind": context.source.kind,
            "chars": context.chars,
            "bytes": context.size,
            "skipped": context.skipped,
            "files": [{**asdict(file), "path": readable(str(file.path))} for file in context.files],
        },
    )


def write_final(trajectory: Trajectory, outcome: LoopOutcome, budget: Budget) -> None:
    """Writes the `final` event. Raises `TrajectoryError`."""
    trajectory.write(
        "final",
        answer=None if outcome.answer is None else trajectory.text(outcome.answer),
        partial=outcome.partial,
        reason=outcome.reason,
        detail=outcome.detail,
        hint=outcome.hint,
        turns=outcome.turns,
        spent=asdict(budget.spent),
    )
