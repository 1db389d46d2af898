"""What raises the bounds of a run's budget, in words: for whoever reads that one of them ended it. Pure."""

from collections.abc import Iterable

from pylon.rlm.budget import Bound

# A prompt that was too long teaches the root to cut it up, and a loop that stands too deep is an `llm_query`.
_RAISED_BY = {
    Bound.SATS: "--sats (rlm.max_sats)",
    Bound.CALLS: "--calls (rlm.max_calls)",
    Bound.TOKENS: "--tokens (rlm.max_tokens)",
    Bound.TURNS: "rlm.max_root_turns",
    Bound.WALL: "--seconds (rlm.max_wall_s)",
    Bound.DISK: "rlm.keep_run_mb",
}
# A loop's own, which is no part of the budget.
MORE_TURNS = "To allow more turns per loop: --turns (rlm.turns)."


def may_lack(refused: Iterable[Bound]) -> list[Bound]:
    """Those bounds whose refusal leaves an answer incomplete."""
    return sorted(set(refused) & _RAISED_BY.keys())


def more(bounds: Iterable[Bound]) -> str:
    """The hint for a run that these bounds held up; empty where nothing is to be raised."""
    by = ", ".join(_RAISED_BY[bound] for bound in may_lack(bounds))
    return f"To raise the budget: {by}." if by else ""
