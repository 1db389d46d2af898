"""The readings of a machine as values: its last input, power, heat and memory pressure. None means unknown, and
never pauses anything.

A `Machine` is asked in a thread, since its answers come from files and programs that may be slow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum, auto
from typing import Protocol

from pylon import log

logger = log.get("host")


class Sense(StrEnum):
    """The readings that can be asked for."""

    INPUT = auto()
    POWER = auto()
    HEAT = auto()
    MEMORY = auto()


class Heat(IntEnum):
    """Thermal pressure: the names of `NSProcessInfo.thermalState`, the numbers of <libkern/OSThermalNotification.h>.

    The header calls them nominal, moderate, heavy, trapping and sleeping.
    """

    NOMINAL = 0
    FAIR = 1
    SERIOUS = 2
    CRITICAL = 3
    SLEEPING = 4


class MemoryPressure(IntEnum):
    """Memory pressure, by the numbers of `kern.memorystatus_vm_pressure_level`.

    Activity Monitor shows them as green, yellow and red.
    """

    NORMAL = 1
    WARNING = 2
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Power:
    """The power state. `percent` is the charge of a laptop's battery, None if there is none or it is unknown.

    Batteries of a UPS or a mouse do not count.
    """

    on_battery: bool
    percent: int | None


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings. `input_age_s` is seconds since the last input by keyboard or mouse; unknown if there are none."""

    input_age_s: float | None = None
    power: Power | None = None
    heat: Heat | None = None
    memory: MemoryPressure | None = None


class Machine(Protocol):
    """A source of readings. Each method returns None for unknown; an exception means the same."""

    def input_age_s(self) -> float | None: ...

    def power(self) -> Power | None: ...

    def heat(self) -> Heat | None: ...

    def memory(self) -> MemoryPressure | None: ...


def read(machine: Machine, wanted: frozenset[Sense]) -> Readings:
    """The `wanted` readings; the others are unknown, and so is one that fails. Raises nothing."""
    return Readings(
        _asked(machine.input_age_s) if Sense.INPUT in wanted else None,
        _asked(machine.power) if Sense.POWER in wanted else None,
        _asked(machine.heat) if Sense.HEAT in wanted else None,
        _asked(machine.memory) if Sense.MEMORY in wanted else None,
    )


def _asked[T](question: Callable[[], T | None]) -> T | None:
    try:
        return question()
    except Exception as error:
        # Whatever a driver, program or library raises must not stop the node.
        logger.debug("a reading failed", reading=question.__name__, error=repr(error))
        return None
