import time

import pytest

from pylon.cli.owner import paused_line, rule_line, seconds_of, waived_line
from pylon.errors import UsageError


def rule(name: str, holds: bool, ends: str = "mains power", waived: bool = False):
    since = 1_800_000_000.0 if holds else None
    return {
        "name": name,
        "holds": holds,
        "waived": waived,
        "since": since,
        "reading": "on battery, 80 %",
        "ends": ends,
    }


def owner(*rules):
    return {"rules": list(rules), "waived_until": None}


def test_a_pause_is_told_with_what_ends_it():
    battery, heat = rule("battery", True), rule("heat", True, "a minute below serious heat")
    assert paused_line("battery", owner(battery)) == "paused (battery): mains power ends it"
    both = paused_line("battery, heat", owner(battery, heat, rule("memory", False)))
    assert both == "paused (battery, heat): mains power and a minute below serious heat end it"


@pytest.mark.parametrize("known", [None, owner(), owner(rule("battery", True))])
def test_no_rule_is_said_to_end_a_pause_by_hand(known):
    assert paused_line("owner", known) == "paused (owner)"


def test_each_rule_is_shown_with_its_reading():
    since = time.strftime("%a %H:%M", time.localtime(1_800_000_000))
    held = f"battery: on battery, 80 %; holds since {since}, mains power ends it"
    assert rule_line(rule("battery", True)) == held
    assert rule_line(rule("battery", False)) == "battery: on battery, 80 %"
    assert rule_line(rule("battery", False, waived=True)) == "battery: on battery, 80 %; waived"
    assert waived_line(1_800_000_000).endswith(since)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("30 min", 1800), ("1.5h", 5400), ("0s", 0), ("1D", 86400)]
)
def test_a_duration_is_a_number_and_its_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "2 weeks", "1e3s", "nan h"])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(UsageError, match="is no duration"):
        seconds_of(text)
