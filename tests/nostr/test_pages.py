from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from pylon.nostr.client.pages import Pages, halves
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter

AUTHORS = [letter * 64 for letter in "abc"]
values = st.frozensets(st.sampled_from("vwxyz"), min_size=1, max_size=4)
tags = st.dictionaries(st.sampled_from("te"), values, max_size=2)
filters = st.builds(
    Filter,
    authors=st.none() | st.frozensets(st.sampled_from(AUTHORS), min_size=1),
    kinds=st.none() | st.frozensets(st.integers(1, 4), min_size=1),
    tags=tags,
    since=st.none() | st.integers(0, 8),
    until=st.none() | st.integers(0, 8),
)


@st.composite
def stored(draw: st.DrawFn) -> list[Event]:
    places = draw(
        st.lists(st.tuples(st.sampled_from(AUTHORS), st.integers(1, 4), st.integers(0, 8), tags), max_size=40)
    )
    return [
        Event(
            id=f"{number:064x}", pubkey=author, created_at=at, kind=kind, content="", sig="0" * 128,
            tags=tuple((name, value) for name, some in carried.items() for value in sorted(some)),
        )
        for number, (author, kind, at, carried) in enumerate(places)
    ]  # fmt: skip


def answer(events: Iterable[Event], asked: Filter, most: int) -> tuple[list[Event], bool]:
    """What a relay gives that cuts its answers at so many, and whether it may have cut this one."""
    found = sorted(filter(asked.matches, events), key=lambda event: (-event.created_at, event.id))
    bound = most if asked.limit is None else min(most, asked.limit)
    page = found[:bound]
    return page, len(page) == most and (asked.limit is None or asked.limit > most)


def walked(events: Iterable[Event], wanted: Filter, most: int) -> tuple[dict[str, Event], Pages]:
    pages, got = Pages(wanted), {}
    while (asked := pages.next()) is not None:
        page, full = answer(events, asked, most)
        got.update((event.id, event) for event in page)
        pages.came(page, full=full)
    return got, pages


@given(stored(), filters, st.integers(1, 5))
def test_all_that_matches_comes_but_of_seconds_that_are_named(events: list[Event], wanted: Filter, most: int) -> None:
    got, pages = walked(events, wanted, most)
    matching = {event.id: event for event in events if wanted.matches(event)}
    lost = [event for name, event in matching.items() if name not in got]
    assert got.keys() <= matching.keys()
    assert {event.created_at for event in lost} <= set(pages.crowded)


@given(stored(), filters, st.integers(1, 5), st.integers(0, 30))
def test_of_a_limit_the_newest_come_and_no_more_than_a_crowded_second_adds(
    events: list[Event], wanted: Filter, most: int, limit: int
) -> None:
    bounded = Filter(wanted.ids, wanted.authors, wanted.kinds, wanted.tags, wanted.since, wanted.until, limit)
    got, pages = walked(events, bounded, most)
    newest = answer(events, bounded, 1_000)[0]
    assert {event.created_at for event in newest if event.id not in got} <= set(pages.crowded)
    assert len(got) >= len(newest) or pages.crowded
    if len(got) > limit:
        last = min(event.created_at for event in got.values())
        assert sum(event.created_at > last for event in got.values()) < limit


@given(stored(), filters)
def test_halves_match_together_what_the_whole_matches(events: list[Event], wanted: Filter) -> None:
    parts = halves(wanted)
    assert len(parts) in (0, 2)
    if parts:
        for event in events:
            assert wanted.matches(event) == any(part.matches(event) for part in parts)


def test_a_filter_of_single_values_cannot_be_cut() -> None:
    assert halves(Filter()) == ()
    assert halves(Filter(authors=frozenset({AUTHORS[0]}), tags={"t": frozenset({"v"})})) == ()
