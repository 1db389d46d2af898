"""The rule of hours: a week of local time, in which some spans are open for work.

    mon-fri 22:00-06:30        from Monday's evening to Saturday's morning, each night
    sat,sun 00:00-24:00
    daily 12:00-13:00

Other common spellings are read too: full names of days, blanks, any dash, `22.00`. Spans are in local time. When
clocks change, an hour that comes twice is open twice, and one that is skipped is left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pylon.host.readings import Sense
from pylon.provider.owner.rules import Look, Moment

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_WEEK = 7 * _DAY
_SPAN = re.compile(r"(\S+)\s+([0-9]{1,2})[:.]([0-9]{2})-([0-9]{1,2})[:.]([0-9]{2})")
# Full names and longer abbreviations of days, which are cut to their first three letters.
_LONGER = re.compile(r"\b(?:(?:mon|fri|sun|satur)days?|tue(?:s|sdays?)|wed(?:s|nesdays?)|thu(?:r|rs|rsdays?))\b")
# Hyphens, dashes and the minus sign, of which keyboards and word processors make one.
_DASHES = re.compile(r"\s*[-\u2010-\u2015\u2212]\s*")
_COMMAS = re.compile(r"\s*,\s*")
_FORM = "write it as `mon-fri 22:00-06:30`, `sat,sun 00:00-24:00` or `daily 12:00-13:00`"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the week, in minutes: open from `start`, counted from Monday 00:00, for `length` minutes."""

    start: int
    length: int

    def holds(self, minute: int) -> bool:
        return (minute - self.start) % _WEEK < self.length


def parse_spans(text: str) -> list[Span]:
    """The spans of a setting, one for each day that it names. One whose end is not after its start ends the next day.

    Raises `ValueError`, which says what is wrong and how to write it.
    """
    plain = _COMMAS.sub(",", _DASHES.sub("-", text.strip().lower()))
    found = _SPAN.fullmatch(_LONGER.sub(lambda day: day[0][:3], plain))
    if found is None:
        raise ValueError(f"{text!r} is not a time span: {_FORM}")
    named, hours = found.group(1), [int(part) for part in found.groups()[1:]]
    start, end = (_minute(hour, minute, text) for hour, minute in (hours[:2], hours[2:]))
    days = _days(named, text)
    if start == _DAY:
        # A span that starts at 24:00 may mean this day or the next one.
        raise ValueError(f"{text!r} begins after its day has ended: write it as {_from_midnight(named, days, end)}")
    if start == end:
        raise ValueError(f"{text!r} is empty; write a whole day as `{named} 00:00-24:00`")
    return [Span(day * _DAY + start, (end - start) % _DAY or _DAY) for day in days]


class OutOfHours:
    """Pauses outside of all these spans; without spans, never."""

    name = "schedule"
    needs: frozenset[Sense] = frozenset()
    settle_s = 0.0
    yielding = True

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = tuple(spans)

    def look(self, now: Moment) -> Look:
        local = now.local
        minute = local.weekday() * _DAY + local.hour * 60 + local.minute
        if not self._spans or any(span.holds(minute) for span in self._spans):
            return Look(pauses=False, reading="open", ends="")
        wait = min((span.start - minute) % _WEEK for span in self._spans)
        opens = (minute + wait) % _WEEK
        today = wait < _DAY and opens // _DAY == local.weekday()
        day = "" if today else f"{_DAYS[opens // _DAY].capitalize()} "
        return Look(pauses=True, reading="closed", ends=f"{day}{opens % _DAY // 60:02}:{opens % 60:02}")


def _days(text: str, whole: str) -> list[int]:
    if text == "daily":
        return list(range(7))
    days: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not set(ends) <= set(_DAYS):
            raise ValueError(f"{whole!r} has no valid days of the week: {_FORM}")
        first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
        days.update((first + n) % 7 for n in range((last - first) % 7 + 1))
    return sorted(days)


def _from_midnight(named: str, days: list[int], end: int) -> str:
    hours = f"00:00-{end // 60:02}:{end % 60:02}" if 0 < end < _DAY else "00:00-24:00"
    if len(days) == len(_DAYS):
        return f"`{named} {hours}`"
    after = ",".join(_DAYS[(day + 1) % 7] for day in days)
    return f"`{named} {hours}`, or `{after} {hours}` if you mean the day after"


def _minute(hour: int, minute: int, whole: str) -> int:
    if minute > 59 or hour * 60 + minute > _DAY:
        raise ValueError(f"{whole!r} has no valid times of day: {_FORM}")
    return hour * 60 + minute
