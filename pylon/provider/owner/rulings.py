"""Which owner rules hold: values in, verdicts out. A rule begins at once, and ends when its reason stays away."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pylon.host.readings import Readings, Sense
from pylon.provider.owner.rules import Rule

# A word for a while. Who wants more than this wants other rules.
MOST_WAIVED_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one rule says. `since` is Unix time, None while it does not hold; `ends` is what would end it.

    `waived`: it would hold, if the owner had not said otherwise for now. `yielding`: the owner's word ends it.
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
    """The rules of one node, and since when which of them hold."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._held: dict[str, _Held] = {}
        self._waived_until = self._waived_until_boot = -math.inf

    @property
    def needs(self) -> frozenset[Sense]:
        """The readings that the rules look at."""
        return frozenset().union(*(rule.needs for rule in self._rules))

    def waive(self, seconds: float, *, wall: float, boot: float) -> None:
        """For so long rules that yield do not hold; 0 ends that."""
        # A person means hours by the clock, sleep included.
        self._waived_until, self._waived_until_boot = wall + seconds, boot + seconds

    def waived_until(self, *, wall: float, boot: float) -> float | None:
        """Until when rules that yield do not hold, in Unix seconds; None when they do.

        It is by the clock, and no longer than was said: a clock that is set back later does not stretch it.
        """
        until = min(self._waived_until, wall + self._waived_until_boot - boot)
        return until if wall < until else None

    def decide(
        self, readings: Readings, local: datetime, *, now: float, wall: float, boot: float
    ) -> tuple[Ruling, ...]:
        """What each rule says, in their order.

        `now` is monotonic, `wall` Unix time, `local` the same for people; `boot` counts sleep and is never set.
        """
        waived = self.waived_until(wall=wall, boot=boot) is not None
        return tuple(self._ruling(rule, readings, local, now, wall, waived=waived) for rule in self._rules)

    def _ruling(
        self, rule: Rule, readings: Readings, local: datetime, now: float, wall: float, *, waived: bool
    ) -> Ruling:
        held = self._held.get(rule.name)
        look = rule.look(readings, local, held=held is not None)
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
    """The names of those that hold, or empty: what customers are told."""
    return ", ".join(ruling.name for ruling in rulings if ruling.holds)
