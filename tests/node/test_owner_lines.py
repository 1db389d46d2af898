import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from pylon.cli.owner import at, rule_line, seconds_of, waived_line
from pylon.errors import UsageError
from pylon.node.hindrance import paused_line

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 11, 27, 18, 2, tzinfo=BERLIN)


@pytest.fixture(autouse=True)
def _reads_in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def rule(name: str, holds: bool, ends: str = "mains power", waived: bool = False):
    return {
        "name": name,
        "holds": holds,
        "waived": waived,
        "began_local": "2026-11-27T18:02:00+01:00" if holds else None,
        "reading": "on battery, 80 %",
        "ends": ends,
    }


def owner(*rules):
    return {"rules": list(rules), "waiver_ends_at": None}


def test_a_pause_is_told_with_what_ends_it():
    battery, heat = rule("battery", True), rule("heat", True, "a minute below serious heat")
    assert paused_line("battery", owner(battery)) == "paused (battery): mains power ends it"
    both = paused_line("battery, heat", owner(battery, heat, rule("memory", False)))
    assert both == "paused (battery, heat): mains power and a minute below serious heat end it"


@pytest.mark.parametrize("known", [None, owner(), owner(rule("battery", True))])
def test_no_rule_is_said_to_end_a_pause_by_hand(known):
    assert paused_line("owner", known) == "paused by hand: `pylon resume` ends it"


def test_a_pause_that_nobody_wished_is_told_with_what_ends_it():
    assert "no room on the disk" in paused_line("disk", owner())
    assert "`pylon doctor`" in paused_line("database", owner(rule("battery", True)))


def test_each_rule_is_shown_with_its_reading():
    now = FRIDAY.timestamp()
    held = "battery: on battery, 80 %; holds since Fri 18:02, mains power ends it"
    assert rule_line(rule("battery", True), now) == held
    assert rule_line(rule("battery", False), now) == "battery: on battery, 80 %"
    assert rule_line(rule("battery", False, waived=True), now) == "battery: on battery, 80 %; waived"
    assert waived_line("2026-11-27T18:02:00+01:00", now).endswith(" until Fri 18:02 at your request")


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        ("2026-11-27T23:59:00+01:00", "Fri 23:59"),
        ("2026-12-03T00:00:00+01:00", "Thu 00:00"),
        ("2026-12-04T00:00:00+01:00", "Fri 2026-12-04 00:00"),
        ("2026-11-21T23:00:00+01:00", "Sat 23:00"),
        ("2026-11-20T18:02:00+01:00", "Fri 2026-11-20 18:02"),
        ("2027-01-02T18:02:00+01:00", "Sat 2027-01-02 18:02"),
        # Summer time is the same zone.
        ("2027-05-01T18:02:00+02:00", "Sat 2027-05-01 18:02"),
    ],
)
def test_beyond_six_days_a_time_has_its_date(when, shown):
    assert at(when, FRIDAY.timestamp()) == shown


def test_a_time_is_the_nodes_and_says_so_where_the_reader_lives_in_another_zone():
    assert at("2026-11-27T12:02:00-05:00", FRIDAY.timestamp()) == "Fri 12:02 UTC-05:00"
    late = "2026-11-28T01:02:00+08:00"
    assert at(late, FRIDAY.timestamp()) == "Sat 01:02 UTC+08:00"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("30 min", 1800), ("1.5h", 5400), ("0s", 0), ("1D", 86400), ("30d", 2_592_000)],
)
def test_a_duration_is_a_number_and_its_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "2 weeks", "1e3s", "nan h", "٢h", "२ h", "²h"])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(UsageError, match="is not a duration"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["31d", "721h", "9" * 400 + "d"])
def test_a_while_has_an_end(text):
    with pytest.raises(UsageError, match="longer than 30 days") as refused:
        seconds_of(text)
    assert "[owner]" in refused.value.hint
