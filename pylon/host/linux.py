"""The readings of a Linux machine: from the kernel's files, and for its desktop from systemd-logind and GNOME.

Files: Documentation/ABI/testing/sysfs-class-power, Documentation/driver-api/thermal/sysfs-api.rst,
Documentation/accounting/psi.rst of the kernel. `loginctl` and `busctl`: their manuals.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pylon.host.programs import output_of
from pylon.host.readings import Heat, MemoryPressure, Power

SESSION = ("loginctl", "show-session", *(f"--property={name}" for name in (
    "Type", "Class", "Remote", "Active", "IdleHint", "IdleSinceHint",
)))  # fmt: skip
GNOME = (
    "busctl", "--user", "--auto-start=no", "call", "org.gnome.Mutter.IdleMonitor",
    "/org/gnome/Mutter/IdleMonitor/Core", "org.gnome.Mutter.IdleMonitor", "GetIdletime",
)  # fmt: skip
_GRAPHICAL = frozenset({"x11", "wayland", "mir"})
# Percentages of the last ten seconds in which some tasks, or all tasks, waited for memory.
WARNING_SOME, CRITICAL_FULL = 10.0, 10.0
_PRESSURE = re.compile(r"^(some|full) avg10=(\d+(?:\.\d+)?)", re.MULTILINE)
_TRIPS = {"passive": Heat.SERIOUS, "hot": Heat.CRITICAL, "critical": Heat.SLEEPING}


class LinuxMachine:
    """See `Machine`. `root` holds /sys, /proc and /run; `run` returns a program's output; `now` is Unix time."""

    def __init__(
        self,
        root: Path = Path("/"),
        run: Callable[..., str] = output_of,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._run = run
        self._now = now

    def input_age_s(self) -> float | None:
        """The age of the last input at this machine's own screen. Remote sessions do not count."""
        sessions = self._root / "run/systemd/sessions"
        # logind keeps a file for each session, so that no program is run on a server without any.
        ids = sorted(p.name for p in sessions.iterdir() if p.suffix != ".ref") if sessions.is_dir() else []
        if not ids:
            return None
        hints = session_hints(self._run(*SESSION, *ids))
        if not hints:
            return None
        try:
            return mutter_age_s(self._run(*GNOME))
        except (OSError, ValueError, subprocess.SubprocessError):
            return hinted_age_s(hints, self._now())

    def power(self) -> Power | None:
        supplies = self._root / "sys/class/power_supply"
        if not supplies.is_dir():
            return None
        charges: list[int] = []
        states: set[str] = set()
        mains = False
        for supply in supplies.iterdir():
            kind = _line(supply / "type")
            if kind in ("Mains", "USB", "Wireless"):
                mains = mains or _line(supply / "online") in ("1", "2")
            elif kind == "Battery" and _line(supply / "scope") != "Device" and _line(supply / "present") != "0":
                # Batteries of mice and headsets have the scope `Device`; a UPS has a type of its own.
                states.add(_line(supply / "status"))
                charges += [int(charge) for charge in [_line(supply / "capacity")] if charge.isdecimal()]
        # A battery may discharge while it is plugged in, to spare it or because the charger is weak.
        on_battery = "Discharging" in states and not mains
        return Power(on_battery, min(100, round(sum(charges) / len(charges))) if charges else None)

    def heat(self) -> Heat | None:
        """By the trip points of the thermal zones, from the one where the kernel slows the machine down (passive)."""
        found = [heat for zone in self._zones() if (heat := _zone_heat(zone)) is not None]
        return max(found, default=None)

    def memory(self) -> MemoryPressure:
        return parse_pressure((self._root / "proc/pressure/memory").read_text())

    def _zones(self) -> Iterator[Path]:
        for zone in (self._root / "sys/class/thermal").glob("thermal_zone*"):
            if _line(zone / "mode") != "disabled":
                yield zone


def session_hints(text: str) -> list[tuple[bool, float]]:
    """The idle hints that `loginctl show-session` prints: for each session, whether idle and since when (Unix time).

    Only active sessions on a screen of this machine count, and only if their desktop has ever given a hint: for
    others logind says "not idle" for ever.
    """
    hints = []
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        here = (values.get("Class"), values.get("Remote"), values.get("Active")) == ("user", "no", "yes")
        since = values.get("IdleSinceHint", "")
        if here and values.get("Type") in _GRAPHICAL and since.isdecimal() and int(since):
            hints.append((values.get("IdleHint") == "yes", int(since) / 1e6))
    return hints


def hinted_age_s(hints: list[tuple[bool, float]], now: float) -> float:
    """A lower bound of the seconds since the last input: a desktop gives its hint only after some minutes."""
    return min(max(0.0, now - since) if idle else 0.0 for idle, since in hints)


def mutter_age_s(text: str) -> float:
    """Seconds from what `busctl` prints: `t 5000` is an unsigned 64-bit number of milliseconds. Raises ValueError."""
    kind, _, number = text.strip().partition(" ")
    if kind != "t" or not number.isdecimal():
        raise ValueError("the idle monitor answers something else")
    return int(number) / 1e3


def parse_pressure(text: str) -> MemoryPressure:
    """The memory pressure in the text of /proc/pressure/memory. Raises ValueError if it is not such a text."""
    shares = {kind: float(share) for kind, share in _PRESSURE.findall(text)}
    if "some" not in shares:
        raise ValueError("no pressure is told")
    if shares.get("full", 0.0) >= CRITICAL_FULL:
        return MemoryPressure.CRITICAL
    return MemoryPressure.WARNING if shares["some"] >= WARNING_SOME else MemoryPressure.NORMAL


def _zone_heat(zone: Path) -> Heat | None:
    temperature = _millidegrees(zone / "temp")
    if temperature is None:
        return None
    reached, known = Heat.NOMINAL, False
    for trip in zone.glob("trip_point_*_type"):
        heat = _TRIPS.get(_line(trip))
        at = _millidegrees(trip.with_name(trip.name.replace("_type", "_temp")))
        # Zero and below mean that the trip point is not set.
        if heat is not None and at is not None and at > 0:
            known = True
            reached = max(reached, heat) if temperature >= at else reached
    return reached if known else None


def _millidegrees(path: Path) -> int | None:
    try:
        return int(_line(path))
    except ValueError:
        return None


def _line(path: Path) -> str:
    # A driver that cannot read its value raises an error.
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
