"""What a machine says about itself, as values. None is what it does not say: unknown, and a reason for nothing.

A `Machine` is asked in a thread, since its answers come from files and programs that may take their time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum, auto
from typing import Protocol

from pylon import log

logger = log.get("host")


class Sense(StrEnum):
    """What can be asked for."""

    INPUT = auto()
    POWER = auto()
    HEAT = auto()
    MEMORY = auto()


class Heat(IntEnum):
    """As `NSProcessInfo.thermalState` names it, by the numbers of <libkern/OSThermalNotification.h>.

    Those are called nominal, moderate, heavy, trapping and sleeping there.
    """

    NOMINAL = 0
    FAIR = 1
    SERIOUS = 2
    CRITICAL = 3
    SLEEPING = 4


class MemoryPressure(IntEnum):
    """By the numbers of `kern.memorystatus_vm_pressure_level`; green, yellow and red in Activity Monitor."""

    NORMAL = 1
    WARNING = 2
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Power:
    """`percent` is the charge of a laptop's battery, None where there is none or it does not tell.

    What a UPS holds, or a mouse, does not count.
    """

    on_battery: bool
    percent: int | None


@dataclass(frozen=True, slots=True)
class Readings:
    """`input_age_s`: seconds since a person last touched keyboard or mouse; unknown where there are none."""

    input_age_s: float | None = None
    power: Power | None = None
    heat: Heat | None = None
    memory: MemoryPressure | None = None


class Machine(Protocol):
    """Where readings come from. Each call returns None for unknown; what it raises means the same."""

    def input_age_s(self) -> float | None: ...

    def power(self) -> Power | None: ...

    def heat(self) -> Heat | None: ...

    def memory(self) -> MemoryPressure | None: ...


def read(machine: Machine, wanted: frozenset[Sense]) -> Readings:
    """Asks for what is wanted; the rest stays unknown. Raises nothing: a reading that fails is unknown."""
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
        # Whatever a driver, a program or a library of the system does: the node goes on.
        logger.debug("a reading failed", reading=question.__name__, error=repr(error))
        return None
