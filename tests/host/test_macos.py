"""What is asked of macOS's libraries, with stand-ins for those: fakes that take what the headers say."""

import ctypes
import math
import sys

import pytest

from pylon.host import macos


class FakeSystem:
    """A fake of libSystem: what it is called with is as in <notify.h> and sysctl(3)."""

    def __init__(self, heat: int = 2, memory: int = 4, fails: bool = False) -> None:
        self.heat, self.memory, self.fails = heat, memory, fails
        self.registered = 0

    def notify_register_check(self, name, token):
        assert name == b"com.apple.system.thermalpressurelevel"
        self.registered += 1
        token._obj.value = 7
        return 1 if self.fails else 0

    def notify_get_state(self, token, state):
        assert token.value == 7 and isinstance(state._obj, ctypes.c_uint64)
        state._obj.value = self.heat
        return 0

    def sysctlbyname(self, name, value, size, new, new_size):
        assert name == b"kern.memorystatus_vm_pressure_level"
        assert (size._obj.value, new, new_size.value) == (4, None, 0)
        value._obj.value = self.memory
        return -1 if self.fails else 0


class FakeGraphics:
    """A fake of CoreGraphics."""

    def __init__(self, age: float) -> None:
        def ask(state, kind):
            assert (state, kind) == (0, 0xFFFFFFFF)
            return age

        self.CGEventSourceSecondsSinceLastEventType = ask


def test_thermal_pressure_is_registered_for_once_and_read_each_time():
    system = FakeSystem()
    key = macos.ThermalKey(system)
    assert key.level() == 2
    system.heat = 4
    assert (key.level(), system.registered) == (4, 1)


def test_memory_pressure_is_the_kernels_number():
    assert macos.memory_level(FakeSystem()) == 4


def test_the_age_of_the_last_event_is_in_seconds():
    assert macos.event_age_s(FakeGraphics(12.5)) == 12.5


@pytest.mark.parametrize("age", [math.nan, math.inf, -1.0])
def test_an_age_that_is_none_is_an_error(age):
    with pytest.raises(OSError):
        macos.event_age_s(FakeGraphics(age))


def test_a_call_that_fails_is_an_error():
    system = FakeSystem(fails=True)
    with pytest.raises(OSError):
        macos.ThermalKey(system).level()
    with pytest.raises(OSError):
        macos.memory_level(system)


@pytest.mark.skipif(sys.platform == "darwin", reason="there they are")
def test_elsewhere_what_is_macos_own_is_not_there():
    for ask in (macos.ThermalKey().level, macos.memory_level, macos.event_age_s):
        with pytest.raises((OSError, AttributeError)):
            ask()
