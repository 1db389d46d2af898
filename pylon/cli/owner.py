"""What `start`, `status` and `resume` say of owner rules. The node says it too, and so nothing here draws."""

import re
from datetime import datetime
from typing import Any

from pylon.errors import UsageError
from pylon.node.hindrance import told_ends
from pylon.provider.owner.rulings import MOST_WAIVED_S

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")
# A day of the week names one day only as far as it comes once.
_WEEKDAYS = 6


def seconds_of(text: str) -> float:
    """`30min`, `2h`: in seconds. Raises `UsageError`."""
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
    """One rule with its reading."""
    line = f"{rule['name']}: {rule['reading']}"
    if rule["holds"]:
        return f"{line}; holds since {at(rule['began_local'], now)}, {told_ends([rule['ends']])}"
    return f"{line}; waived" if rule["waived"] else line


def waived_line(until: str, now: float) -> str:
    """Until when the owner has it serve all the same."""
    return f"serving until {at(until, now)} at your request"


def at(local: str, now: float) -> str:
    """A time by the node's clock: `Fri 18:02`, and with its date where that day of the week is not the nearest.

    `now` is Unix time. Where whoever reads it lives in another zone, the node's is named.
    """
    when = datetime.fromisoformat(local)
    days = abs((when.date() - datetime.fromtimestamp(now, when.tzinfo).date()).days)
    text = when.strftime("%a %H:%M" if days <= _WEEKDAYS else "%a %Y-%m-%d %H:%M")
    same = when.utcoffset() == datetime.fromtimestamp(when.timestamp()).astimezone().utcoffset()
    return text if same else f"{text} {when:%Z}"
