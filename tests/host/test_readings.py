import logging
import time

import pytest

from pylon.host.machine import this_machine
from pylon.host.programs import output_of
from pylon.host.readings import Heat, MemoryPressure, Power, Readings, Sense, read


class Odd:
    """A fake machine, each of whose readings can be made to fail."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken

    def _tell(self, name, value):
        if name == self.broken:
            raise IndexError(name)
        return value

    def input_age_s(self):
        return self._tell("input_age_s", 3.0)

    def power(self):
        return self._tell("power", Power(True, 50))

    def heat(self):
        return self._tell("heat", Heat.FAIR)

    def memory(self):
        return self._tell("memory", MemoryPressure.NORMAL)


ALL = Readings(3.0, Power(True, 50), Heat.FAIR, MemoryPressure.NORMAL)


@pytest.mark.parametrize("broken", ["input_age_s", "power", "heat", "memory"])
def test_a_reading_that_fails_is_unknown_and_the_others_are_there(broken):
    found = read(Odd(broken), frozenset(Sense))
    assert getattr(found, broken) is None
    assert [name for name in ("input_age_s", "power", "heat", "memory") if getattr(found, name) is None] == [broken]


def test_only_what_is_wanted_is_asked_for():
    assert read(Odd("power"), frozenset({Sense.INPUT})) == Readings(input_age_s=3.0)
    assert read(Odd(), frozenset(Sense)) == ALL


def test_this_machine_is_read_without_an_error(caplog):
    with caplog.at_level(logging.DEBUG, "pylon"):
        found = read(this_machine(), frozenset(Sense))
    assert isinstance(found, Readings)


def test_a_program_that_hangs_costs_its_reading_alone(monkeypatch):
    monkeypatch.setattr("pylon.host.programs.WITHIN_S", 0.1)
    machine = Odd()
    machine.power = lambda: output_of("sleep", "60")
    begun = time.monotonic()
    assert read(machine, frozenset({Sense.POWER})) == Readings()
    assert time.monotonic() - begun < 30
