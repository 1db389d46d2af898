"""Thousands of random histories of readings: rules begin at once, end late enough, and never on what is unknown."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.host.readings import Heat, MemoryPressure, Power, Readings, Sense
from pylon.provider.owner.rules import Battery, InUse, Overheated, ShortOfMemory
from pylon.provider.owner.rulings import OwnerRules, reason
from pylon.provider.owner.schedule import OutOfHours, parse_spans
from tests.manual_clock import ManualClock

NOON = datetime(2026, 11, 27, 12, 0)
WALL = 1_800_000_000.0
QUIET = Readings(1e6, Power(False, 100), Heat.NOMINAL, MemoryPressure.NORMAL)
HOT = Readings(1e6, Power(False, 100), Heat.CRITICAL, MemoryPressure.NORMAL)
ON_BATTERY = Readings(1e6, Power(True, 80), Heat.NOMINAL, MemoryPressure.NORMAL)


def all_rules(*hours: str) -> OwnerRules:
    rules = [InUse(180), Battery(20), Overheated(Heat.SERIOUS), ShortOfMemory(MemoryPressure.CRITICAL)]
    return OwnerRules([*rules, *([OutOfHours([s for text in hours for s in parse_spans(text)])] if hours else [])])


def decide(rules: OwnerRules, readings: Readings, now: float, local: datetime = NOON):
    return rules.decide(readings, local, now=now, wall=WALL + now, boot=now)


def reasons(rules: OwnerRules, readings: Readings, now: float, local: datetime = NOON) -> str:
    return reason(decide(rules, readings, now, local))


def test_a_rule_begins_at_once_and_ends_when_its_reason_was_away_for_a_while():
    rules = all_rules()
    assert reasons(rules, QUIET, 0) == ""
    assert reasons(rules, HOT, 10) == "heat"
    assert reasons(rules, QUIET, 20) == "heat"
    assert reasons(rules, QUIET, 69.9) == "heat"
    assert reasons(rules, QUIET, 70) == ""


def test_a_reason_that_comes_back_meanwhile_starts_the_wait_anew():
    rules = all_rules()
    for now, readings in ((0, HOT), (50, QUIET), (59, HOT), (60, QUIET), (118, QUIET)):
        assert reasons(rules, readings, now) == "heat"
    assert reasons(rules, QUIET, 119) == ""


def test_a_rule_whose_reason_is_away_says_for_how_much_longer_it_holds():
    rules = all_rules()
    assert decide(rules, HOT, 0)[2].ends == "a minute below serious heat"
    assert decide(rules, QUIET, 18)[2].ends == "42 s more without a reason"
    assert decide(rules, QUIET, 60)[2].ends == "a minute below serious heat"


def test_since_is_when_it_began_and_all_that_hold_are_named():
    rules = all_rules("daily 22:00-06:00")
    decide(rules, HOT, 5)
    rulings = {ruling.name: ruling for ruling in decide(rules, ON_BATTERY, 15)}
    assert rulings["heat"].since == WALL + 5
    assert rulings["battery"].since == WALL + 15
    assert rulings["in use"].since is None and not rulings["in use"].holds
    assert reasons(rules, ON_BATTERY, 16) == "battery, heat, schedule"
    assert rulings["schedule"].ends == "22:00"


def test_the_schedule_opens_on_time():
    rules = all_rules("daily 22:00-06:00")
    assert reasons(rules, QUIET, 0, NOON) == "schedule"
    assert reasons(rules, QUIET, 10, NOON.replace(hour=22)) == ""


def test_an_owners_word_waives_what_is_theirs_and_not_what_protects_the_machine():
    rules = all_rules("daily 22:00-06:00")
    readings = Readings(1.0, Power(True, 80), Heat.CRITICAL, MemoryPressure.CRITICAL)
    assert reasons(rules, readings, 0) == "in use, battery, heat, memory, schedule"
    rules.waive(100, wall=WALL, boot=0)
    assert reasons(rules, readings, 10) == "heat, memory"
    assert [ruling.name for ruling in decide(rules, readings, 20) if ruling.waived] == [
        "in use",
        "battery",
        "schedule",
    ]
    assert reasons(rules, readings, 100) == "in use, battery, heat, memory, schedule"
    found = {ruling.name: ruling for ruling in decide(rules, readings, 110)}
    assert found["battery"].since == WALL + 100 and not found["battery"].waived


@pytest.mark.parametrize(
    ("move", "seconds", "left"),
    [
        ("advance", 3_000, 4_200),
        ("sleep", 3_000, 4_200),
        ("advance", 7_200, None),
        ("sleep", 7_200, None),
        ("set_by", -10_800, 7_200),
        ("set_by", 3_000, 4_200),
        ("set_by", 10_800, None),
    ],
)
def test_two_hours_are_two_hours_by_the_clock_and_no_longer_when_that_is_set_back(move, seconds, left):
    rules, clock = all_rules(), ManualClock(WALL)
    rules.waive(7_200, wall=clock.wall(), boot=clock.boot())
    getattr(clock, move)(seconds)

    def waived() -> float | None:
        until = rules.waived_until(wall=clock.wall(), boot=clock.boot())
        return None if until is None else until - clock.wall()

    def holds() -> str:
        wall, boot = clock.wall(), clock.boot()
        return reason(rules.decide(ON_BATTERY, NOON, now=clock.monotonic(), wall=wall, boot=boot))

    assert waived() == left
    assert holds() == ("" if left else "battery")
    clock.advance(left or 0)
    assert (waived(), holds()) == (None, "battery")


def test_a_word_is_ended_by_no_seconds():
    rules = all_rules()
    rules.waive(7_200, wall=WALL, boot=0)
    rules.waive(0, wall=WALL + 1, boot=1)
    assert rules.waived_until(wall=WALL + 1, boot=1) is None


def test_only_what_the_rules_look_at_is_needed():
    assert all_rules().needs == frozenset(Sense)
    assert OwnerRules([InUse(180)]).needs == {Sense.INPUT}
    assert OwnerRules([]).needs == frozenset()


POWERS = st.builds(Power, st.booleans(), st.none() | st.integers(0, 100))
READINGS = st.builds(
    Readings,
    st.none() | st.floats(0, 1_000),
    st.none() | POWERS,
    st.none() | st.sampled_from(Heat),
    st.none() | st.sampled_from(MemoryPressure),
)
SETTLES = {"in use": 30, "battery": 30, "heat": 60, "memory": 60}


@given(st.lists(st.tuples(READINGS, st.floats(0.1, 40))))
def test_whatever_the_readings_do_no_rule_flaps(history):
    rules, now = all_rules(), 0.0
    began: dict[str, float] = {}
    for readings, wait in history:
        now += wait
        for ruling in decide(rules, readings, now):
            if ruling.holds:
                assert ruling.since is not None
                began.setdefault(ruling.name, ruling.since - WALL)
            elif ruling.name in began:
                # Each pause lasts as long as its reason must be away, and so there are that few of them.
                assert now - began.pop(ruling.name) >= SETTLES[ruling.name] - 1e-6


@given(st.lists(READINGS, max_size=30))
def test_what_is_unknown_neither_begins_a_pause_nor_holds_one_for_long(history):
    rules, now = all_rules(), 0.0
    for readings in history:
        now += 10
        decide(rules, readings, now)
    before = {ruling.name for ruling in decide(rules, Readings(), now) if ruling.holds}
    assert {ruling.name for ruling in decide(rules, Readings(), now + 10) if ruling.holds} <= before
    assert reasons(rules, Readings(), now + 61) == ""
    assert reasons(all_rules(), Readings(), 0) == ""


@given(st.lists(READINGS, min_size=1, max_size=20))
def test_the_same_readings_give_the_same_rulings(history):
    first, second = all_rules(), all_rules()
    for turn, readings in enumerate(history):
        assert decide(first, readings, turn * 10) == decide(second, readings, turn * 10)
