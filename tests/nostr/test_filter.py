import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError, WireError
from pylon.nostr.event import MAX_TIMESTAMP, Event
from pylon.nostr.filter import MAX_TAG_VALUE, MAX_VALUES, Filter, parse_filter

A, B = "a" * 64, "b" * 64

hex64 = st.text("0123456789abcdef", min_size=64, max_size=64)
times = st.none() | st.integers(0, MAX_TIMESTAMP)
letters = st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    tags = {
        letter: draw(st.frozensets(hex64 if letter in "ep" else st.text(max_size=20), max_size=3))
        for letter in draw(st.sets(letters, max_size=3))
    }
    return Filter(
        ids=draw(st.none() | st.frozensets(hex64, max_size=3)),
        authors=draw(st.none() | st.frozensets(hex64, max_size=3)),
        kinds=draw(st.none() | st.frozensets(st.integers(0, 65_535), max_size=3)),
        tags=tags,
        since=draw(times),
        until=draw(times),
        limit=draw(times),
    )


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "id": A, "pubkey": B, "created_at": 100, "kind": 1, "tags": (("p", A), ("t", "x"), ("t", "y")),
        "content": "", "sig": "0" * 128,
    }  # fmt: skip
    return Event(**{**fields, **changes})


@given(filters())
def test_every_filter_parses_back(value: Filter) -> None:
    assert parse_filter(value.to_dict()) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["ids", "authors", "kinds", "since", "until", "limit", "#e", "#p", "#t"]) | st.text(),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_parsing_anything_raises_nothing_but_wire_errors(value: Any) -> None:
    with contextlib.suppress(WireError):
        parse_filter(value)


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        (Filter(), True),
        (Filter(ids=frozenset({A})), True),
        (Filter(ids=frozenset({B})), False),
        (Filter(ids=frozenset()), False),
        (Filter(authors=frozenset({A, B})), True),
        (Filter(authors=frozenset({A})), False),
        (Filter(kinds=frozenset({1, 2})), True),
        (Filter(kinds=frozenset({2})), False),
        (Filter(kinds=frozenset()), False),
        (Filter(since=100, until=100), True),
        (Filter(since=101), False),
        (Filter(until=99), False),
        (Filter(tags={"t": frozenset({"y", "z"})}), True),
        (Filter(tags={"t": frozenset({"z"})}), False),
        (Filter(tags={"T": frozenset({"x"})}), False),
        (Filter(tags={"t": frozenset()}), False),
        (Filter(tags={"t": frozenset({"x"}), "p": frozenset({B})}), False),
        (Filter(limit=0), True),
    ],
)
def test_an_event_matches_when_it_passes_every_condition(condition: Filter, matches: bool) -> None:
    assert condition.matches(event()) is matches


@pytest.mark.parametrize(
    ("condition", "most"),
    [
        (Filter(), None),
        (Filter(limit=7), 7),
        (Filter(ids=frozenset({"a" * 64, "b" * 64}), limit=7), 2),
        (Filter(authors=frozenset({"a" * 64, "b" * 64}), kinds=frozenset({0, 10_002})), 4),
        (Filter(authors=frozenset({"a" * 64}), kinds=frozenset({0, 1})), None),
        (Filter(authors=frozenset({"a" * 64})), None),
    ],
)
def test_a_filter_says_how_many_events_can_answer_it(condition: Filter, most: int | None) -> None:
    assert condition.most == most


def test_equal_filters_are_written_alike() -> None:
    one = Filter(
        ids=frozenset({A, B}), kinds=frozenset({2, 1}), tags={"t": frozenset({"y", "x"}), "p": frozenset({A})}
    )
    assert one.to_dict() == {"ids": [A, B], "kinds": [1, 2], "#p": [A], "#t": ["x", "y"]}
    assert list(one.to_dict()) == ["ids", "kinds", "#p", "#t"]


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {"ids": None},
        {"ids": A},
        {"ids": [A[:-1]]},
        {"ids": [A.upper()]},
        {"ids": [A + "\n"]},
        {"ids": [1]},
        {"ids": [A] * (MAX_VALUES + 1)},
        {"authors": ["npub1"]},
        {"kinds": 1},
        {"kinds": [True]},
        {"kinds": [1.0]},
        {"kinds": [-1]},
        {"kinds": [65_536]},
        {"kinds": [1] * (MAX_VALUES + 1)},
        {"since": True},
        {"since": "1"},
        {"until": -1},
        {"limit": 1.0},
        {"limit": 2**64},
        {"#e": ["x"]},
        {"#p": [A.upper()]},
        {"#t": "x"},
        {"#t": [1]},
        {"#t": ["x" * (MAX_TAG_VALUE + 1)]},
        {"#tt": ["x"]},
        {"#": ["x"]},
        {"#1": ["x"]},
        {"#é": ["x"]},
        {"search": "x"},
        {1: []},
    ],
)
def test_a_filter_that_breaks_nip01_is_refused(raw: Any) -> None:
    with pytest.raises(MalformedError):
        parse_filter(raw)
