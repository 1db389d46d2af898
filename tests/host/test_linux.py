"""Readings of Linux, on trees of files as the kernel shows them and on what systemd's programs print."""

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.host.linux import GNOME, LinuxMachine, mutter_age_s, parse_pressure, session_hints
from pylon.host.readings import Heat, MemoryPressure, Power, Readings, Sense, read

NOW = 1_800_000_000.0
BATTERY = {"type": "Battery", "present": "1", "status": "Discharging", "capacity": "79"}
MAINS = {"type": "Mains", "online": "1"}
MOUSE = {"type": "Battery", "scope": "Device", "present": "1", "status": "Discharging", "capacity": "3"}
UPS = {"type": "UPS", "status": "Discharging", "capacity": "50"}


def grow(root: Path, folder: str, files: dict[str, str]) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / folder / name).write_text(f"{text}\n")


def nothing(*command: str) -> str:
    raise FileNotFoundError(command[0])


@pytest.mark.parametrize(
    ("supplies", "power"),
    [
        ([], Power(False, None)),
        ([MAINS], Power(False, None)),
        ([UPS], Power(False, None)),
        ([MOUSE], Power(False, None)),
        ([BATTERY, MAINS | {"online": "0"}], Power(True, 79)),
        ([BATTERY, MOUSE], Power(True, 79)),
        ([BATTERY | {"status": "Charging"}, MAINS], Power(False, 79)),
        # Plugged in, and spared or short of power.
        ([BATTERY | {"status": "Not charging"}, MAINS], Power(False, 79)),
        ([BATTERY, MAINS], Power(False, 79)),
        ([BATTERY, {"type": "USB", "online": "1"}], Power(False, 79)),
        # Two batteries, of which one is spent, and one that was taken out.
        ([BATTERY, BATTERY | {"capacity": "1", "status": "Unknown"}], Power(True, 40)),
        ([BATTERY, BATTERY | {"present": "0", "capacity": "0"}], Power(True, 79)),
        ([{"type": "Battery", "status": "Discharging"}], Power(True, None)),
    ],
)
def test_power_is_read_from_the_kernels_supplies(tmp_path, supplies, power):
    (tmp_path / "sys/class/power_supply").mkdir(parents=True)
    for number, files in enumerate(supplies):
        grow(tmp_path, f"sys/class/power_supply/{number}", files)
    assert LinuxMachine(tmp_path, nothing).power() == power


def zone(temp: str, *trips: tuple[str, str], mode: str = "enabled") -> dict[str, str]:
    points = {f"trip_point_{n}_type": kind for n, (kind, _) in enumerate(trips)}
    points |= {f"trip_point_{n}_temp": at for n, (_, at) in enumerate(trips)}
    return {"type": "x86_pkg_temp", "temp": temp, "mode": mode, **points}


TRIPS = (("active", "50000"), ("passive", "95000"), ("hot", "100000"), ("critical", "105000"))


@pytest.mark.parametrize(
    ("zones", "heat"),
    [
        ([], None),
        ([zone("60000")], None),
        ([zone("94000", *TRIPS)], Heat.NOMINAL),
        ([zone("95000", *TRIPS)], Heat.SERIOUS),
        ([zone("101000", *TRIPS)], Heat.CRITICAL),
        ([zone("60000", *TRIPS), zone("96000", *TRIPS)], Heat.SERIOUS),
        ([zone("96000", *TRIPS, mode="disabled")], None),
        # Points that are not set.
        ([zone("60000", ("passive", "0"), ("critical", "-274000"))], None),
        ([zone("broken", *TRIPS)], None),
    ],
)
def test_heat_is_where_the_kernel_begins_to_slow_down(tmp_path, zones, heat):
    for number, files in enumerate(zones):
        grow(tmp_path, f"sys/class/thermal/thermal_zone{number}", files)
    assert LinuxMachine(tmp_path, nothing).heat() == heat


def pressure(some: float, full: float) -> str:
    rest = "avg60=0.00 avg300=0.00 total=0"
    return f"some avg10={some:.2f} {rest}\nfull avg10={full:.2f} {rest}\n"


@pytest.mark.parametrize(
    ("some", "full", "level"),
    [
        (0, 0, MemoryPressure.NORMAL),
        (9.9, 9.9, MemoryPressure.NORMAL),
        (10, 2, MemoryPressure.WARNING),
        (40, 10, MemoryPressure.CRITICAL),
    ],
)
def test_memory_pressure_is_the_time_lost_to_it(tmp_path, some, full, level):
    grow(tmp_path, "proc/pressure", {"memory": pressure(some, full)})
    assert LinuxMachine(tmp_path, nothing).memory() is level


DESKTOP = """\
Type=wayland
Class=user
Remote=no
Active=yes
IdleHint={idle}
IdleSinceHint={since}
"""
SSH = DESKTOP.replace("wayland", "tty").replace("Remote=no", "Remote=yes")
SHARED = DESKTOP.replace("Remote=no", "Remote=yes")
GREETER = DESKTOP.replace("Class=user", "Class=greeter")
AWAY = DESKTOP.replace("Active=yes", "Active=no")


def desktop(root: Path, sessions: str, mutter: str | None = None) -> LinuxMachine:
    grow(root, "run/systemd/sessions", {"2": "# private", "2.ref": ""})

    def run(*command: str) -> str:
        if command == GNOME:
            if mutter is None:
                raise subprocess.CalledProcessError(1, command)
            return mutter
        assert command[:2] == ("loginctl", "show-session") and command[-1] == "2"
        return sessions

    return LinuxMachine(root, run, lambda: NOW)


def hinted(text: str, idle: str, since_s: float) -> str:
    return text.format(idle=idle, since=int(since_s * 1e6))


def test_gnome_tells_the_age_of_the_last_input(tmp_path):
    sessions = hinted(DESKTOP, "no", NOW - 5)
    assert desktop(tmp_path, sessions, "t 61250\n").input_age_s() == 61.25
    assert desktop(tmp_path, sessions, "s nonsense\n").input_age_s() == 0.0


def test_other_desktops_hint_that_nobody_is_there(tmp_path):
    assert desktop(tmp_path, hinted(DESKTOP, "yes", NOW - 600)).input_age_s() == 600
    assert desktop(tmp_path, hinted(DESKTOP, "no", NOW - 600)).input_age_s() == 0
    both = f"{hinted(DESKTOP, 'yes', NOW - 600)}\n{hinted(DESKTOP, 'yes', NOW - 60)}"
    assert desktop(tmp_path, both).input_age_s() == 60


@pytest.mark.parametrize("text", [SSH, SHARED, GREETER, AWAY])
def test_who_does_not_sit_here_does_not_count(tmp_path, text):
    assert desktop(tmp_path, hinted(text, "no", NOW - 5), "t 0\n").input_age_s() is None


def test_a_desktop_that_has_never_given_a_hint_is_unknown(tmp_path):
    assert desktop(tmp_path, hinted(DESKTOP, "no", 0)).input_age_s() is None


def test_a_machine_without_sessions_starts_no_program(tmp_path):
    (tmp_path / "run/systemd/sessions").mkdir(parents=True)
    called = []
    assert LinuxMachine(tmp_path, lambda *command: called.append(command)).input_age_s() is None
    assert called == []


def test_a_machine_that_says_nothing_is_unknown_in_everything(tmp_path):
    grow(tmp_path, "run/systemd/sessions", {"2": ""})
    assert read(LinuxMachine(tmp_path, nothing), frozenset(Sense)) == Readings()


@given(st.text())
def test_whatever_stands_there_is_read_or_refused(text):
    for parse in (session_hints, mutter_age_s, parse_pressure):
        with contextlib.suppress(ValueError):
            parse(text)
