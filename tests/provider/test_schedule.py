import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.host.readings import Readings
from pylon.provider.owner.rules import Moment
from pylon.provider.owner.schedule import OutOfHours, parse_spans

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONDAY = datetime(2026, 11, 23)


def rule(*texts: str) -> OutOfHours:
    return OutOfHours([span for text in texts for span in parse_spans(text)])


def look(closed: OutOfHours, at: datetime):
    return closed.look(Moment(Readings(), at, held=False))


def opened(closed: OutOfHours, day: str, time: str) -> bool:
    hour, minute = map(int, time.split(":"))
    return not look(closed, MONDAY + timedelta(DAYS.index(day), hours=hour, minutes=minute)).pauses


def test_a_span_over_midnight_belongs_to_the_day_it_begins_on():
    closed = rule("mon-fri 22:00-06:30")
    assert [opened(closed, *at) for at in (("mon", "06:00"), ("mon", "22:00"), ("tue", "06:29"))] == [
        False,
        True,
        True,
    ]
    assert [opened(closed, *at) for at in (("tue", "06:30"), ("sat", "06:29"), ("sat", "22:00"))] == [
        False,
        True,
        False,
    ]


def test_a_span_over_the_end_of_the_week_goes_on_on_monday():
    closed = rule("sun 23:00-02:00")
    assert opened(closed, "mon", "01:59") and opened(closed, "sun", "23:30")
    assert not opened(closed, "mon", "02:00") and not opened(closed, "sun", "01:00")


def test_days_may_be_named_alone_as_a_range_round_the_week_and_all():
    assert [opened(rule("fri-mon 10:00-11:00"), day, "10:30") for day in DAYS] == [
        True,
        False,
        False,
        False,
        *[True] * 3,
    ]
    assert [opened(rule("tue,sat 10:00-11:00"), day, "10:30") for day in DAYS] == [
        day in ("tue", "sat") for day in DAYS
    ]
    assert all(opened(rule("Daily 00:00 - 24:00"), day, "23:59") for day in DAYS)


def test_several_spans_are_open_together_and_none_is_always():
    closed = rule("daily 01:00-02:00", "wed 12:00-13:00")
    assert opened(closed, "mon", "01:30") and opened(closed, "wed", "12:30") and not opened(closed, "tue", "12:30")
    assert not look(OutOfHours([]), MONDAY).pauses


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        (("mon", 12), "22:00"),
        (("fri", 12), "22:00"),
        (("sat", 12), "Mon 22:00"),
        (("sun", 23), "Mon 22:00"),
    ],
)
def test_what_ends_it_is_the_next_opening(at, ends):
    found = look(rule("mon-fri 22:00-06:30"), MONDAY + timedelta(DAYS.index(at[0]), hours=at[1]))
    assert (found.pauses, found.ends) == (True, ends)


def test_once_a_week_the_next_opening_may_be_the_same_day_next_week():
    assert look(rule("mon 10:00-11:00"), MONDAY + timedelta(hours=12)).ends == "Mon 10:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mon",
        "mon 9-10",
        "moonday 09:00-10:00",
        "mon, 09:00-10:00",
        "mon 09;00-10:00",
        "mon 09:00-24:01",
        "mon 09:60-10:00",
        "mon- 09:00-10:00",
        "mon 10:00-10:00",
        "mon 25:00-26:00",
        "daily,mon 09:00-10:00",
        ", 09:00-10:00",
    ],
)
def test_what_is_no_span_is_refused_with_how_it_is_written(text):
    with pytest.raises(ValueError, match=r"write it as|whole day"):
        parse_spans(text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sat, sun 00:00-24:00", "sat,sun 00:00-24:00"),
        ("monday 9:00-10:00", "mon 09:00-10:00"),
        ("Tuesday,THURS,weds 09:00-10:00", "tue,thu,wed 09:00-10:00"),
        ("mon–fri 22:00–06:30", "mon-fri 22:00-06:30"),
        ("Mondays — Fridays  22:00 − 06:30", "mon-fri 22:00-06:30"),
        ("saturday 22.00-06.30", "sat 22:00-06:30"),
    ],
)
def test_a_span_may_be_written_as_people_do(written, meant):
    assert parse_spans(written) == parse_spans(meant)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("daily 24:00-06:00", ["daily 00:00-06:00"]),
        ("daily 24:00-24:00", ["daily 00:00-24:00"]),
        ("sun 24:00-01:30", ["sun 00:00-01:30", "mon 00:00-01:30"]),
        ("mon 10:00-10:00", ["mon 00:00-24:00"]),
    ],
)
def test_a_span_that_cannot_be_is_refused_with_those_that_may_be_meant(written, shown):
    with pytest.raises(ValueError, match="write") as refused:
        parse_spans(written)
    named = str(refused.value).split("`")[1::2]
    assert named == shown
    assert all(parse_spans(each) for each in named)


@given(st.text())
def test_any_text_is_a_span_or_refused(text):
    for candidate in (text, f"mon {text}", f"{text} 09:00-10:00"):
        with contextlib.suppress(ValueError):
            assert parse_spans(candidate)


MINUTES = st.integers(0, 24 * 60 - 1)


@given(
    days=st.sets(st.sampled_from(DAYS), min_size=1), start=MINUTES, end=MINUTES, minute=st.integers(0, 7 * 1_440 - 1)
)
def test_every_minute_of_the_week_is_open_as_the_span_reads(days, start, end, minute):
    if start == end:
        return
    text = f"{','.join(days)} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    found = look(rule(text), MONDAY + timedelta(minutes=minute))
    today, now = DAYS[minute // 1_440], minute % 1_440
    yesterday = DAYS[minute // 1_440 - 1]
    if start < end:
        expected = today in days and start <= now < end
    else:
        expected = (today in days and now >= start) or (yesterday in days and now < end)
    assert found.pauses is not expected


@pytest.mark.parametrize("changes", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_when_clocks_change_the_clock_on_the_wall_counts(changes):
    """Berlin skips 02:00 to 03:00 in March, and has it twice in October."""
    closed, zone = rule("sun 02:30-03:30"), ZoneInfo("Europe/Berlin")
    minutes = 0
    for minute in range(24 * 60):
        local = (changes + timedelta(minutes=minute)).astimezone(zone)
        is_open = not look(closed, local).pauses
        assert is_open is ("02:30" <= local.strftime("%H:%M") < "03:30")
        minutes += is_open
    assert minutes == (30 if changes.month == 3 else 90)
