"""What `pylon map --dry-run` shows: jobs, providers, cost, tokens and time, in words."""

from collections.abc import Iterator
from typing import Any

from pylon.money.msat import sats_text

# How many of the lines that would fail are named.
_NAMED = 10


def estimated(found: dict[str, Any], budget: int | None, unit: str) -> Iterator[tuple[str, str]]:
    """The node's estimate as pairs of label and text. `budget` is in msat; each of the faults has its `line`."""
    yield "jobs", f"{found['jobs']}{f', plus up to {found["checks"]} to check answers' if found['checks'] else ''}"
    if found["unaskable"]:
        yield "not sent", f"{found['unaskable']} of them, which will fail without being asked"
    for fault in found["faults"][:_NAMED]:
        yield f"line {fault['line']}", fault["error"]["message"]
    if found["unaskable"] > _NAMED:
        yield "", f"and {found['unaskable'] - _NAMED} more; --json lists up to 100"
    yield "suitable providers", f"{found['providers']} with {found['slots']} slots"
    yield "cost", _cost(found["least_msat"], found["most_msat"], unit) if found["providers"] else "unknown"
    if budget is not None and found["most_msat"] > budget:
        pays = "may not" if found["least_msat"] <= budget else "does not"
        yield "budget", f"{sats_text(budget, unit)}, which {pays} cover all of them"
    yield "tokens", f"about {found['prompt_tokens']:,} in, {found['most_completion_tokens']:,} out at most"
    yield "time", _time(found["wall_s"], found["providers"])


def _cost(least: int, most: int, unit: str) -> str:
    if least == most:
        return f"{sats_text(most, unit)}{' at most' if most else ''}"
    return f"{sats_text(least, unit)} to {sats_text(most, unit)} at most"


def _time(seconds: float | None, providers: int) -> str:
    if seconds is not None:
        return f"about {seconds:.1f} s at the announced speeds, if every answer is as long as allowed"
    return "unknown: no provider's speed has been measured" if providers else "no provider can take it now"
