"""Owner rules: when this machine takes no work for others on, by what it says about itself.

Each rule is one small class that looks at readings. What it cannot know is no reason to pause: a server without
keyboard, battery or sensors is held up by none of them. `provider/owner/rulings.py` keeps what they say from
flapping.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pylon.host.readings import Heat, MemoryPressure, Readings, Sense

UNKNOWN = "not known"
# A charge around the limit would begin and end a pause with each percent.
_CHARGED = 5


@dataclass(frozen=True, slots=True)
class Look:
    """What a rule sees: whether there is a reason to pause, its reading, and what ends the pause, for people."""

    pauses: bool
    reading: str
    ends: str


class Rule(Protocol):
    """`settle_s`: for how long its reason must be gone before a pause ends. A `yielding` rule gives way when the
    owner says so; one that protects the machine does not."""

    name: str
    needs: frozenset[Sense]
    settle_s: float
    yielding: bool

    def look(self, readings: Readings, local: datetime, *, held: bool) -> Look:
        """`local` is the time on the clock on the wall; `held` says that this rule pauses already."""


class InUse:
    """A person typed or moved the mouse a short while ago.

    `attended`: whoever started the node sits there and wants to see it work, so that the rule counts once the
    machine has been left alone.
    """

    name = "in use"
    needs = frozenset({Sense.INPUT})
    settle_s = 30.0
    yielding = True

    def __init__(self, alone_s: float, *, attended: bool = False) -> None:
        self._alone_s = alone_s
        self._attended = attended

    def look(self, readings: Readings, local: datetime, *, held: bool) -> Look:  # noqa: ARG002
        age, ends = readings.input_age_s, f"{duration(self._alone_s)} without input"
        if age is None:
            return Look(pauses=False, reading=UNKNOWN, ends=ends)
        reading = f"last input {duration(age)} ago"
        recent = age < self._alone_s
        if self._attended and recent:
            return Look(pauses=False, reading=f"{reading}; counts once no one has been here for a while", ends=ends)
        self._attended = False
        return Look(recent, reading, ends)


class Battery:
    """On battery, unless that is allowed (`serve`); or below a charge of `least` percent, from whatever power."""

    name = "battery"
    needs = frozenset({Sense.POWER})
    settle_s = 30.0
    yielding = True

    def __init__(self, least: int, *, serve: bool = False) -> None:
        self._least = least
        self._serve = serve

    def look(self, readings: Readings, local: datetime, *, held: bool) -> Look:  # noqa: ARG002
        power = readings.power
        if power is None:
            return Look(pauses=False, reading=UNKNOWN, ends="mains power")
        percent, least = power.percent, min(100, self._least + (_CHARGED if held and self._least else 0))
        low = percent is not None and percent < least
        drawn = power.on_battery and not self._serve
        source = "on battery" if power.on_battery else "no battery" if percent is None else "on mains"
        reading = source if percent is None else f"{source}, {percent} %"
        charge = f"a charge of {min(100, self._least + _CHARGED)} %"
        ends = f"mains power and {charge}" if drawn and low else charge if low else "mains power"
        return Look(drawn or low, reading, ends)


class Overheated:
    """Thermal pressure of that level or above."""

    name = "heat"
    needs = frozenset({Sense.HEAT})
    settle_s = 60.0
    yielding = False

    def __init__(self, level: Heat) -> None:
        self._level = level

    def look(self, readings: Readings, local: datetime, *, held: bool) -> Look:  # noqa: ARG002
        heat, ends = readings.heat, f"a minute below {self._level.name.lower()} heat"
        if heat is None:
            return Look(pauses=False, reading=UNKNOWN, ends=ends)
        return Look(heat >= self._level, f"{heat.name.lower()} ({heat.value} of 4)", ends)


class ShortOfMemory:
    """Memory pressure of that level or above."""

    name = "memory"
    needs = frozenset({Sense.MEMORY})
    settle_s = 60.0
    yielding = False

    def __init__(self, level: MemoryPressure) -> None:
        self._level = level

    def look(self, readings: Readings, local: datetime, *, held: bool) -> Look:  # noqa: ARG002
        pressure, ends = readings.memory, f"a minute without {self._level.name.lower()} memory pressure"
        if pressure is None:
            return Look(pauses=False, reading=UNKNOWN, ends=ends)
        return Look(pressure >= self._level, f"{pressure.name.lower()} pressure", ends)


def duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"
