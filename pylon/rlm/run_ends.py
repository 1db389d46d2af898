"""The first and the last event of a run's trajectory: what it was asked and given, and what came of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pylon import __version__
from pylon.rlm import prompts
from pylon.rlm.budget import Budget, Limits
from pylon.rlm.context import Context, readable
from pylon.rlm.course import LoopOutcome
from pylon.rlm.root import Root
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import SubModels
from pylon.rlm.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Origin:
    """For the trajectory: which strategy runs, which run this one replays, which sandbox holds its code, and what
    else there is to say of the root (temperature, address, seed)."""

    strategy: str = "rlm"
    replay_of: str | None = None
    sandbox: str = ""
    root: Mapping[str, object] = field(default_factory=dict)


def begun(
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
    """Writes `run`. `before` is what was spent when it was taken up, `shared` that its budget is others' too."""
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


def ended(trajectory: Trajectory, outcome: LoopOutcome, budget: Budget) -> None:
    """Writes `final`."""
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
