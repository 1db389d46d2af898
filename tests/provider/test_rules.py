from datetime import datetime

import pytest

from pylon.host.readings import Heat, MemoryPressure, Power, Readings
from pylon.provider.owner.rules import Battery, InUse, Moment, Overheated, ShortOfMemory, duration

NOON = datetime(2026, 11, 27, 12, 0)


def look(rule, held=False, **readings):
    return rule.look(Moment(Readings(**readings), NOON, held))


@pytest.mark.parametrize(
    "rule", [InUse(180), Battery(20), Overheated(Heat.FAIR), ShortOfMemory(MemoryPressure.WARNING)]
)
@pytest.mark.parametrize("held", [False, True])
def test_what_is_unknown_never_pauses(rule, held):
    found = look(rule, held)
    assert not found.pauses and found.reading == "not known" and found.ends


@pytest.mark.parametrize(("age", "pauses"), [(0, True), (179.9, True), (180, False), (1e9, False)])
def test_a_machine_is_in_use_for_some_minutes_after_an_input(age, pauses):
    found = look(InUse(180), input_age_s=age)
    assert (found.pauses, found.ends) == (pauses, "3 min without input")


def test_who_starts_a_node_by_hand_sees_it_serve_until_the_machine_was_left_alone():
    rule = InUse(180, attended=True)
    assert not look(rule, input_age_s=1).pauses
    assert "counts once" in look(rule, input_age_s=2).reading
    assert not look(rule).pauses
    assert not look(rule, input_age_s=5).pauses
    assert not look(rule, input_age_s=180).pauses
    assert look(rule, input_age_s=1).pauses


@pytest.mark.parametrize(
    ("rule", "power", "pauses", "ends"),
    [
        (Battery(20), Power(True, 100), True, "mains power"),
        (Battery(20), Power(True, None), True, "mains power"),
        (Battery(20), Power(True, 19), True, "mains power and a charge of 25 %"),
        (Battery(20), Power(False, 19), True, "a charge of 25 %"),
        (Battery(20), Power(False, 20), False, "mains power"),
        (Battery(20), Power(False, None), False, "mains power"),
        (Battery(20, serve=True), Power(True, 20), False, "mains power"),
        (Battery(20, serve=True), Power(True, 19), True, "a charge of 25 %"),
        (Battery(0), Power(False, 0), False, "mains power"),
    ],
)
def test_a_laptop_works_on_mains_with_some_charge_unless_its_owner_allows_more(rule, power, pauses, ends):
    found = look(rule, power=power)
    assert (found.pauses, found.ends) == (pauses, ends)


def test_a_low_battery_is_charged_some_percent_further_before_work_goes_on():
    rule = Battery(20)
    assert look(rule, held=True, power=Power(False, 24)).pauses
    assert not look(rule, held=True, power=Power(False, 25)).pauses
    assert not look(Battery(100), held=True, power=Power(False, 100)).pauses


def test_a_desktop_says_that_it_has_no_battery():
    assert look(Battery(20), power=Power(False, None)).reading == "no battery"
    assert look(Battery(20), power=Power(True, 80)).reading == "on battery, 80 %"


@pytest.mark.parametrize("level", Heat)
def test_heat_pauses_from_the_level_that_is_set(level):
    assert look(Overheated(Heat.SERIOUS), heat=level).pauses is (level >= 2)


@pytest.mark.parametrize("level", MemoryPressure)
def test_memory_pressure_pauses_from_the_level_that_is_set(level):
    assert look(ShortOfMemory(MemoryPressure.CRITICAL), memory=level).pauses is (level is MemoryPressure.CRITICAL)
    assert look(ShortOfMemory(MemoryPressure.WARNING), memory=level).pauses is (level > 1)


def test_durations_are_for_people():
    assert [duration(s) for s in (4.4, 119, 180, 7_199, 86_400)] == ["4 s", "119 s", "3 min", "120 min", "24 h"]
