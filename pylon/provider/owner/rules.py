"""Owner rules: when this machine takes no jobs, by readings of its input, power, heat and memory.

Each rule is a small class that looks at the readings. A reading that is missing is no reason to pause: a server may
have no keyboard, battery or sensors. `provider/owner/rulings.py` keeps rules from flapping.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pylon.host.readings import Heat, MemoryPressure, Readings, Sense

UNKNOWN = "not known"
# How many percent above its limit the charge must be to end a pause: at the limit it would flap.
_CHARGED = 5


@dataclass(frozen=True, slots=True)
class Moment:
    """What a rule looks at: the machine's readings, the local time, and whether this rule pauses (`held`) already."""

    readings: Readings
    local: datetime
    held: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a rule sees: whether there is a reason to pause, and for people the reading and what ends the pause."""

    pauses: bool
    reading: str
    ends: str


class Rule(Protocol):
    """`settle_s`: for how many seconds its reason must be gone before a pause ends. The owner can waive a `yielding`
    rule (`pylon resume --for`), but not one that protects the machine."""

    name: str
    needs: frozenset[Sense]
    settle_s: float
    yielding: bool

    def look(self, now: Moment) -> Look:
        """What the rule sees now."""


class InUse:
    """Pauses while a person has typed or moved the mouse in the last `alone_s` seconds.

    `attended`: the person who started the node sits there and wants to see it work. So the rule only counts once the
    machine has been left alone.
    """

    name = "in use"
    needs = frozenset({Sense.INPUT})
    settle_s = 30.0
    yielding = True

    def __init__(self, alone_s: float, *, attended: bool = False) -> None:
        self._alone_s = alone_s
        self._attended = attended

    def look(self, now: Moment) -> Look:
        age, ends = now.readings.input_age_s, f"{duration(self._alone_s)} without input"
        if age is None:
            return Look(pauses=False, reading=UNKNOWN, ends=ends)
        reading = f"last input {duration(age)} ago"
        recent = age < self._alone_s
        if self._attended and recent:
            return Look(pauses=False, reading=f"{reading}; counts once no one has been here for a while", ends=ends)
        self._attended = False
        return Look(recent, reading, ends)


class Battery:
    """Pauses on battery, unless `serve` allows that; and below a charge of `least` percent, even on mains power."""

    name = "battery"
    needs = frozenset({Sense.POWER})
    settle_s = 30.0
    yielding = True

    def __init__(self, least: int, *, serve: bool = False) -> None:
        self._least = least
        self._serve = serve

    def look(self, now: Moment) -> Look:
        power = now.readings.power
        if power is None:
            return Look(pauses=False, reading=UNKNOWN, ends="mains power")
        percent, least = power.percent, min(100, self._least + (_CHARGED if now.held and self._least else 0))
        low = percent is not None and percent < least
        drawn = power.on_battery and not self._serve
        source = "on battery" if power.on_battery else "no battery" if percent is None else "on mains"
        reading = source if percent is None else f"{source}, {percent} %"
        charge = f"a charge of {min(100, self._least + _CHARGED)} %"
        ends = f"mains power and {charge}" if drawn and low else charge if low else "mains power"
        return Look(drawn or low, reading, ends)


class Overheated:
    """Pauses at this level of thermal pressure or above."""

    name = "heat"
    needs = frozenset({Sense.HEAT})
    settle_s = 60.0
    yielding = False

    def __init__(self, level: Heat) -> None:
        self._level = level

    def look(self, now: Moment) -> Look:
        heat, ends = now.readings.heat, f"a minute below {self._level.name.lower()} heat"
        if heat is None:
            return Look(pauses=False, reading=UNKNOWN, ends=ends)
        return Look(heat >= self._level, f"{heat.name.lower()} ({heat.value} of 4)", ends)


class ShortOfMemory:
    """Pauses at this level of memory pressure or above."""

    name = "memory"
    needs = frozenset({Sense.MEMORY})
    settle_s = 60.0
    yielding = False

    def __init__(self, level: MemoryPressure) -> None:
        self._level = level

    def look(self, now: Moment) -> Look:
        pressure, ends = now.readings.memory, f"a minute without {self._level.name.lower()} memory pressure"
        if pressure is None:
            return Look(pauses=False, reading=UNKNOWN, ends=ends)
        return Look(pressure >= self._level, f"{pressure.name.lower()} pressure", ends)


def duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"
