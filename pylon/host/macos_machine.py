"""The readings of a Mac, from its libraries and from the output of two of its programs."""

import re
from collections.abc import Callable

from pylon.host import macos
from pylon.host.programs import output_of
from pylon.host.readings import Heat, MemoryPressure, Power

# Absolute paths, because PATH under launchd is not ours.
IDLE = ("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOHIDSystem")
BATTERY = ("/usr/bin/pmset", "-g", "batt")
_IDLE_NS = re.compile(r'"HIDIdleTime"\s*=\s*(\d+)')
_SOURCE = re.compile(r"Now drawing from '([^']+)'")
# A UPS is listed in the same way, under its maker's name.
_INTERNAL = re.compile(r"^\s*-InternalBattery-\d+.*?(\d{1,3})%", re.MULTILINE)
# An input within so many seconds counts at once, and the program with the other clock is not run.
_RECENT_S = 30.0


class MacMachine:
    """See `Machine`. `run` returns a program's output; the others ask the libraries of the system."""

    def __init__(
        self,
        run: Callable[..., str] = output_of,
        event_age_s: Callable[[], float] = macos.event_age_s,
        heat: Callable[[], int] | None = None,
        memory: Callable[[], int] = macos.memory_level,
    ) -> None:
        self._run = run
        self._event_age_s = event_age_s
        self._heat = heat or macos.ThermalKey().level
        self._memory = memory

    def input_age_s(self) -> float | None:
        """The smaller of two ages: of the devices' last input, and of the last event, even of a shared screen."""
        event: float | None
        try:
            event = self._event_age_s()
        except (OSError, AttributeError):
            event = None
        if event is not None and event < _RECENT_S:
            return event
        devices = hid_age_s(self._run(*IDLE))
        return min((age for age in (event, devices) if age is not None), default=None)

    def power(self) -> Power:
        return parse_batteries(self._run(*BATTERY))

    def heat(self) -> Heat:
        return Heat(self._heat())

    def memory(self) -> MemoryPressure:
        return MemoryPressure(self._memory())


def hid_age_s(text: str) -> float | None:
    """Seconds since the last event of an input device, from the output of `ioreg`; None if it shows none."""
    ages = [int(found) for found in _IDLE_NS.findall(text)]
    return min(ages) / 1e9 if ages else None


def parse_batteries(text: str) -> Power:
    """The power state in the output of `pmset -g batt`. Raises ValueError if it is not such an output."""
    source = _SOURCE.search(text)
    if source is None:
        raise ValueError("pmset names no source of power")
    charges = [int(charge) for charge in _INTERNAL.findall(text)]
    if not charges:
        return Power(on_battery=False, percent=None)
    return Power(source.group(1) == "Battery Power", min(100, round(sum(charges) / len(charges))))
