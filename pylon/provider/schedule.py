"""The rule of hours: a week of local time, in which some spans are open for work.

    mon-fri 22:00-06:30        from Monday's evening to Saturday's morning, each night
    sat,sun 00:00-24:00
    daily 12:00-13:00

Spans are read off the clock on the wall. So when clocks go back, an hour that is open twice is open twice, and
one that is skipped is not missed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pylon.host.readings import Readings, Sense
from pylon.provider.rules import Look

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_WEEK = 7 * _DAY
_SPAN = re.compile(r"(\S+)\s+([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})")
_FORM = "write it as `mon-fri 22:00-06:30`, `sat,sun 00:00-24:00` or `daily 12:00-13:00`"


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes of the week, Monday's midnight being 0: open from `start` on, for `length` minutes."""

    start: int
    length: int

    def holds(self, minute: int) -> bool:
        return (minute - self.start) % _WEEK < self.length


def parse_spans(text: str) -> list[Span]:
    """One span for each day that it names; one that ends before it begins ends the next day.

    Raises ValueError that says what is wrong and how it is written.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no span of hours: {_FORM}")
    hours = [int(part) for part in found.groups()[1:]]
    start, end = (_minute(hour, minute, text) for hour, minute in (hours[:2], hours[2:]))
    if start in (end, _DAY):
        raise ValueError(f"{text!r} is empty; a whole day is 00:00-24:00")
    return [Span(day * _DAY + start, (end - start) % _DAY or _DAY) for day in _days(found.group(1), text)]


class Closed:
    """Outside of all of these spans. With none it is always open."""

    name = "schedule"
    needs: frozenset[Sense] = frozenset()
    settle_s = 0.0
    yielding = True

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = tuple(spans)

    def look(self, readings: Readings, local: datetime, *, held: bool) -> Look:  # noqa: ARG002
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
            raise ValueError(f"{whole!r} names no days of the week: {_FORM}")
        first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
        days.update((first + n) % 7 for n in range((last - first) % 7 + 1))
    return sorted(days)


def _minute(hour: int, minute: int, whole: str) -> int:
    if minute > 59 or hour * 60 + minute > _DAY:
        raise ValueError(f"{whole!r} names no time of the day: {_FORM}")
    return hour * 60 + minute
