"""What `start`, `status` and `resume` say of owner rules. The node says it too, and so nothing here draws."""

import re
import time
from typing import Any

from pylon.errors import UsageError

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)")


def seconds_of(text: str) -> float:
    """`30min`, `2h`: in seconds. Raises `UsageError`."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise UsageError(f"{text!r} is no duration", hint="Write it as 30min, 2h or 1d.")
    return float(found.group(1)) * _UNITS[found.group(2)]


def paused_line(reason: str, owner: dict[str, Any] | None) -> str:
    """`paused (battery): mains power ends it`. `owner` is what `status` has of the rules."""
    rules = () if owner is None else owner["rules"]
    ends = [rule["ends"] for rule in rules if rule["holds"]]
    # A pause by hand is ended by hand, whatever rules hold beside it.
    told = ends and reason == ", ".join(rule["name"] for rule in rules if rule["holds"])
    return f"paused ({reason}){f': {told_ends(ends)}' if told else ''}"


def told_ends(ends: list[str]) -> str:
    """What ends a pause, as a sentence's end."""
    return f"{' and '.join(ends)} {'ends' if len(ends) == 1 else 'end'} it"


def rule_line(rule: dict[str, Any]) -> str:
    """One rule with its reading."""
    line = f"{rule['name']}: {rule['reading']}"
    if rule["holds"]:
        since = time.strftime("%a %H:%M", time.localtime(rule["since"]))
        return f"{line}; holds since {since}, {told_ends([rule['ends']])}"
    return f"{line}; waived" if rule["waived"] else line


def waived_line(until: float) -> str:
    """Until when the owner has it serve all the same."""
    return f"you have it serve until {time.strftime('%a %H:%M', time.localtime(until))}"
