"""Decides which owner rules hold: at once when there is a reason, and until that has been gone for a while."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pylon.host.readings import Readings, Sense
from pylon.provider.owner.rules import Moment, Rule

# The longest that rules can be waived for, in seconds: for longer, an owner should change the settings.
MOST_WAIVED_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is decided about one rule. `since` is Unix time, None while it does not hold; `ends` says what ends it.

    `waived`: it would hold if the owner had not waived it. `yielding`: the owner can waive it.
    """

    name: str
    holds: bool
    waived: bool
    yielding: bool
    since: float | None
    reading: str
    ends: str


@dataclass(slots=True)
class _Held:
    since: float
    # When its reason was last there, on the monotonic clock.
    seen_at: float


class OwnerRules:
    """The rules of a node, and since when each of them holds. Pure: readings and times are passed in."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._held: dict[str, _Held] = {}
        self._waived_until = self._waived_until_boot = -math.inf

    @property
    def needs(self) -> frozenset[Sense]:
        """The readings that the rules need."""
        return frozenset().union(*(rule.needs for rule in self._rules))

    def waive(self, seconds: float, *, wall: float, boot: float) -> None:
        """Waives the yielding rules for so many seconds; 0 ends that. Times as in `decide`."""
        # Two hours are meant by the clock, also when the machine sleeps in between.
        self._waived_until, self._waived_until_boot = wall + seconds, boot + seconds

    def waived_until(self, *, wall: float, boot: float) -> float | None:
        """Until when the yielding rules are waived, in Unix seconds; None when they are not.

        A clock that is set back does not make that any longer.
        """
        until = min(self._waived_until, wall + self._waived_until_boot - boot)
        return until if wall < until else None

    def decide(
        self, readings: Readings, local: datetime, *, now: float, wall: float, boot: float
    ) -> tuple[Ruling, ...]:
        """The ruling on each rule, in their order.

        `now` is in seconds of the monotonic clock, `wall` Unix time and `local` the same as local time. `boot` is a
        monotonic clock that counts sleep, too.
        """
        waived = self.waived_until(wall=wall, boot=boot) is not None
        return tuple(self._ruling(rule, readings, local, now, wall, waived=waived) for rule in self._rules)

    def _ruling(
        self, rule: Rule, readings: Readings, local: datetime, now: float, wall: float, *, waived: bool
    ) -> Ruling:
        held = self._held.get(rule.name)
        look = rule.look(Moment(readings, local, held=held is not None))
        if rule.yielding and waived:
            self._held.pop(rule.name, None)
            return Ruling(rule.name, False, look.pauses, rule.yielding, None, look.reading, look.ends)
        if look.pauses:
            held = self._held.setdefault(rule.name, _Held(wall, now))
            held.seen_at = now
        elif held is not None and now - held.seen_at >= rule.settle_s:
            del self._held[rule.name]
            held = None
        if held is None:
            return Ruling(rule.name, False, False, rule.yielding, None, look.reading, look.ends)
        left = rule.settle_s - (now - held.seen_at)
        ends = look.ends if look.pauses else f"{left:.0f} s more without a reason"
        return Ruling(rule.name, True, False, rule.yielding, held.since, look.reading, ends)


def reason(rulings: Sequence[Ruling]) -> str:
    """The names of the rules that hold, as customers are told; empty if none does."""
    return ", ".join(ruling.name for ruling in rulings if ruling.holds)
