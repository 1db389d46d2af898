"""Readings of a Mac on what its programs print, as their manuals and many reports show it."""

import contextlib
import math
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.host.macos_machine import BATTERY, IDLE, MacMachine, hid_age_s, parse_batteries
from pylon.host.readings import Heat, MemoryPressure, Power, Readings, Sense, read

IOREG = """\
+-o IOHIDSystem  <class IOHIDSystem, id 0x10000042a, registered, matched, active, busy 0 (2 ms), retain 24>
    {
      "IOClass" = "IOHIDSystem"
      "CFBundleIdentifier" = "com.apple.iokit.IOHIDFamily"
      "IOProviderClass" = "IOResources"
      "HIDParameters" = {"HIDClickTime"=500000000,"HIDKeyRepeat"=33333333,"HIDInitialKeyRepeat"=500000000}
      "IOUserClientClass" = "IOHIDUserClient"
      "HIDIdleTime" = 754382923125
      "IOMatchCategory" = "IOHID"
    }

"""
ON_BATTERY = """\
Now drawing from 'Battery Power'
 -InternalBattery-0 (id=4653155)\t79%; discharging; 4:04 remaining present: true
"""
ON_MAINS = """\
Now drawing from 'AC Power'
 -InternalBattery-0 (id=4653155)\t80%; AC attached; not charging present: true
"""
CHARGING = """\
Now drawing from 'AC Power'
 -InternalBattery-0 (id=20709475)\t100%; charged; 0:00 remaining present: true
"""
DESKTOP = "Now drawing from 'AC Power'\n"
DESKTOP_ON_UPS = """\
Now drawing from 'UPS Power'
 -Back-UPS ES 700G FW:871.O3 .I USB FW:O3 (id=53805056)\t93%; discharging; 0:41 remaining present: true
"""
LAPTOP_WITH_UPS = """\
Now drawing from 'AC Power'
 -InternalBattery-0 (id=4653155)\t64%; charging; 1:10 remaining present: true
 -Back-UPS ES 700G FW:871.O3 .I USB FW:O3 (id=53805056)\t100%; charged; 0:00 remaining present: true
"""


@pytest.mark.parametrize(
    ("text", "power"),
    [
        (ON_BATTERY, Power(True, 79)),
        (ON_MAINS, Power(False, 80)),
        (CHARGING, Power(False, 100)),
        (DESKTOP, Power(False, None)),
        (DESKTOP_ON_UPS, Power(False, None)),
        (LAPTOP_WITH_UPS, Power(False, 64)),
    ],
)
def test_a_laptops_battery_is_read_and_a_ups_is_none(text, power):
    assert parse_batteries(text) == power


def test_the_devices_clock_counts_nanoseconds():
    assert hid_age_s(IOREG) == pytest.approx(754.382923125)
    assert hid_age_s("") is None


@given(st.text())
def test_whatever_a_program_prints_is_read_or_refused(text):
    hid_age_s(text)
    with contextlib.suppress(ValueError):
        parse_batteries(f"Now drawing from '{text}'\n -InternalBattery-0 {text}")


def mac(event_age_s=lambda: math.inf, heat=lambda: 0, memory=lambda: 1, **printed):
    def run(*command: str) -> str:
        if command not in (IDLE, BATTERY):
            raise AssertionError(command)
        found = printed.get("ioreg" if command == IDLE else "pmset")
        if found is None:
            raise subprocess.TimeoutExpired(command, 3)
        return found

    return MacMachine(run, event_age_s, heat, memory)


def test_the_smaller_of_two_clocks_of_input_counts():
    assert mac(lambda: 60.0, ioreg=IOREG).input_age_s() == 60.0
    assert mac(lambda: 9_000.0, ioreg=IOREG).input_age_s() == pytest.approx(754.4, abs=0.1)


def test_a_fresh_event_is_believed_without_starting_a_program():
    assert mac(lambda: 2.0).input_age_s() == 2.0


def no_library() -> float:
    raise OSError("no such library")


def test_without_the_library_the_devices_clock_counts_alone():
    assert mac(no_library, ioreg=IOREG).input_age_s() == pytest.approx(754.4, abs=0.1)
    assert mac(no_library, ioreg="").input_age_s() is None


def test_levels_are_named():
    machine = mac(heat=lambda: 2, memory=lambda: 4)
    assert (machine.heat(), machine.memory()) == (Heat.SERIOUS, MemoryPressure.CRITICAL)


def test_what_fails_or_makes_no_sense_is_unknown():
    machine = mac(no_library, heat=lambda: 77, memory=lambda: 3, pmset="pmset: no such thing")
    assert read(machine, frozenset(Sense)) == Readings()
