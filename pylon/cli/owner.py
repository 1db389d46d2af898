"""Owner rules in words, and the durations and times that go with them."""

import re
from datetime import datetime
from typing import Any

from pylon.errors import UsageError
from pylon.node.hindrance import told_ends
from pylon.provider.owner.rulings import MOST_WAIVED_S

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")
# The most days away that a time is named by its day of the week alone.
_WEEKDAYS = 6


def seconds_of(text: str) -> float:
    """The seconds of a duration such as `30min`, `2h` or `1d`. Raises `UsageError`."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise UsageError(f"{text!r} is not a duration", hint="Write it as 30min, 2h or 1d.")
    seconds = float(found.group(1)) * _UNITS[found.group(2)]
    if seconds > MOST_WAIVED_S:
        raise UsageError(
            f"{text!r} is longer than {MOST_WAIVED_S / 86_400:.0f} days",
            hint="For a permanent change, edit [owner] in config.toml.",
        )
    return seconds


def rule_line(rule: dict[str, Any], now: float) -> str:
    """A rule with its reading and, if it holds, since when and what ends it."""
    line = f"{rule['name']}: {rule['reading']}"
    if rule["holds"]:
        return f"{line}; holds since {at(rule['began_local'], now)}, {told_ends([rule['ends']])}"
    return f"{line}; waived" if rule["waived"] else line


def waived_line(until: str, now: float) -> str:
    """Until when the owner has waived the rules."""
    return f"serving until {at(until, now)} at your request"


def at(local: str, now: float) -> str:
    """A time of the node (ISO 8601, with its zone) for people: `Fri 18:02`, with the date if that is a week away.

    `now` is in Unix seconds. The zone is named if this machine is in another one.
    """
    when = datetime.fromisoformat(local)
    days = abs((when.date() - datetime.fromtimestamp(now, when.tzinfo).date()).days)
    text = when.strftime("%a %H:%M" if days <= _WEEKDAYS else "%a %Y-%m-%d %H:%M")
    same = when.utcoffset() == datetime.fromtimestamp(when.timestamp()).astimezone().utcoffset()
    return text if same else f"{text} {when:%Z}"
