"""What is left to do of a run that came to an end, or did not. Pure."""

from enum import Enum

from pylon.errors import UsageError
from pylon.rlm import raising
from pylon.rlm.budget import Bound, Limits
from pylon.rlm.course import Reason
from pylon.rlm.lives import Lives

_LIMITS = {
    Bound.SATS: "msat", Bound.CALLS: "calls", Bound.TOKENS: "tokens", Bound.TURNS: "turns", Bound.WALL: "wall_s",
    Bound.DISK: "disk_bytes",
}  # fmt: skip
# What ended these was no will of the run's own.
_HELD_UP = {Reason.INTERRUPTED, Reason.ROOT_FAILED, Reason.ROOT_SILENT, Reason.SANDBOX}


class LeftToDo(Enum):
    """`ON`: it goes on where it ended. `BACK`: from where a bound that is raised refused something first."""

    NOTHING = "nothing"
    ON = "on"
    BACK = "back"


def raised(lives: Lives, limits: Limits) -> set[Bound]:
    """The bounds that are above those that the run had last."""
    was = lives.begun["limits"]
    return {
        bound
        for bound, name in _LIMITS.items()
        if (old := was.get(name)) is not None and ((new := getattr(limits, name)) is None or new > old)
    }


def left_to_do(run_id: str, lives: Lives, limits: Limits, turns: int) -> LeftToDo:
    """What a run with these limits, and so many turns of a loop, still has to do.

    Raises `UsageError` where it ended for want of what it does not get now, and where it ended by itself.
    """
    more = bool(raised(lives, limits)) or turns > lives.begun["turns"]
    end = lives.ended
    if end is None or (end["reason"] in _HELD_UP and end["partial"]):
        return LeftToDo.BACK if more else LeftToDo.ON
    if not end["partial"]:
        return LeftToDo.NOTHING
    wants_more = end["reason"] in (Reason.BUDGET, Reason.TURNS) or "were refused" in end["detail"]
    if not wants_more:
        raise UsageError(
            f"run {run_id} has already ended ({end['reason']}): {end['detail']}",
            hint="Ask the question again; resuming the run would end the same way.",
        )
    if not more:
        raise UsageError(
            f"run {run_id} ended because of a limit that still holds ({end['reason']}): {end['detail']}",
            hint=end["hint"] or f"{raising.more(Bound)} {raising.MORE_TURNS}",
        )
    return LeftToDo.BACK
