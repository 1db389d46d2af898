"""Hints, in words, on which setting raises a bound of a run's budget that ended or limited the run. Pure."""

from collections.abc import Iterable

from pylon.rlm.budget import Bound

# The other bounds need no raising: after `PROMPT` the root cuts its prompt up, and where `DEPTH` is reached an
# `rlm_query` becomes an `llm_query`.
_RAISED_BY = {
    Bound.SATS: "--sats (rlm.max_sats)",
    Bound.CALLS: "--calls (rlm.max_calls)",
    Bound.TOKENS: "--tokens (rlm.max_tokens)",
    Bound.TURNS: "rlm.max_root_turns",
    Bound.WALL: "--seconds (rlm.max_wall_s)",
    Bound.DISK: "rlm.keep_run_mb",
}
# The turns of a single loop are a setting of the loop, and no bound of the budget.
MORE_TURNS = "To allow more turns per loop: --turns (rlm.turns)."


def limiting_bounds(refused: Iterable[Bound]) -> list[Bound]:
    """Those of the bounds that refused something whose refusal may leave an answer incomplete, sorted."""
    return sorted(set(refused) & _RAISED_BY.keys())


def raise_hint(bounds: Iterable[Bound]) -> str:
    """How to raise the bounds that limited a run; empty if none of them can be raised."""
    by = ", ".join(_RAISED_BY[bound] for bound in limiting_bounds(bounds))
    return f"To raise the budget: {by}." if by else ""
