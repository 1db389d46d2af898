"""Decides whether a recorded run can be resumed, and from where. Pure."""

from enum import Enum

from pylon.errors import UsageError
from pylon.rlm import budget_hints
from pylon.rlm.budget import Bound, Limits
from pylon.rlm.loop_state import Reason, in_words
from pylon.rlm.record import Record

_LIMITS = {
    Bound.SATS: "msat", Bound.CALLS: "calls", Bound.TOKENS: "tokens", Bound.TURNS: "turns", Bound.WALL: "wall_s",
    Bound.DISK: "disk_bytes",
}  # fmt: skip
# Ends that came from outside: the run's own code and budget would have let it go on.
_HELD_UP = {Reason.INTERRUPTED, Reason.ROOT_FAILED, Reason.ROOT_SILENT, Reason.SANDBOX}


class ResumePlan(Enum):
    """What a resume does: nothing, as the run has a whole answer; continue where the run ended; or go back, in each
    loop, to the first cell in which a bound that is raised now refused something."""

    NOTHING_LEFT = "nothing left"
    CONTINUE = "continue"
    GO_BACK = "go back"


def raised_bounds(record: Record, limits: Limits) -> set[Bound]:
    """The bounds for which `limits` allow more than the run was last given."""
    was = record.begun["limits"]
    return {
        bound
        for bound, name in _LIMITS.items()
        if (old := was.get(name)) is not None and ((new := getattr(limits, name)) is None or new > old)
    }


def resume_plan(run_id: str, record: Record, limits: Limits, turns: int) -> ResumePlan:
    """What a resume with these limits, and at most `turns` turns for each loop, has to do.

    Raises `UsageError` for a run that ended by itself, and for one that ended at a bound that is not raised now.
    """
    more = bool(raised_bounds(record, limits)) or turns > record.begun["turns"]
    end = record.ended
    if end is None or (end["reason"] in _HELD_UP and end["partial"]):
        return ResumePlan.GO_BACK if more else ResumePlan.CONTINUE
    if not end["partial"]:
        return ResumePlan.NOTHING_LEFT
    wants_more = end["reason"] in (Reason.BUDGET, Reason.TURNS) or "were refused" in end["detail"]
    if not wants_more:
        raise UsageError(
            f"run {run_id} has already ended ({in_words(end['reason'])}): {end['detail']}",
            hint="Ask the question again; resuming the run would end the same way.",
        )
    if not more:
        raise UsageError(
            f"run {run_id} ended because of a limit that still holds ({end['reason']}): {end['detail']}",
            hint=end["hint"] or f"{budget_hints.raise_hint(Bound)} {budget_hints.MORE_TURNS}",
        )
    return ResumePlan.GO_BACK
