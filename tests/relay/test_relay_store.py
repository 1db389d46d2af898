"""The file: what is kept, what is purged, and that indexes are used."""

import sqlite3
from contextlib import closing

import pytest
from relay_peer import ALICE, BOB, note

from pylon.nostr.filter import Filter, parse_filter
from pylon.relay.queries import Reader, Withheld, apart, newest
from pylon.relay.retention import Outcome
from pylon.relay.rows import Publication
from pylon.relay.store import SCHEMA, EventStore

NOBODY = Reader(frozenset(), 1_000)


@pytest.fixture
async def store(tmp_path):
    opened = await EventStore.open(tmp_path / "relay.db")
    yield opened
    await opened.close()


def publications(*events):
    return [Publication(event, event.to_json()) for event in events]


async def test_expired_events_are_purged_with_their_tags_and_others_stay(store, tmp_path):
    short = note(tags=[("expiration", "2000"), ("t", "a")], created_at=1)
    long = note(tags=[("expiration", "3000"), ("t", "a")], created_at=1)
    odd = note(tags=[("expiration", "soon"), ("t", "a")], created_at=1)
    await store.insert(publications(short, long, odd))
    assert await store.purge(1_999) == 0
    assert await store.purge(2_000) == 1
    assert await store.count([Filter()], NOBODY) == 2
    with closing(sqlite3.connect(tmp_path / "relay.db")) as raw:
        assert raw.execute("SELECT count(*) FROM tag WHERE name = 't'").fetchone() == (2,)


async def test_replaced_events_leave_no_tags_behind(store, tmp_path):
    for at in range(5):
        await store.insert(publications(note(kind=11_998, tags=[("d", "x"), ("t", str(at))], created_at=at)))
    with closing(sqlite3.connect(tmp_path / "relay.db")) as raw:
        assert raw.execute("SELECT count(*) FROM tag").fetchone() == (2,)
        assert raw.execute("SELECT count(*) FROM event").fetchone() == (1,)


async def test_numbers_grow_across_restarts(tmp_path):
    numbers = []
    for content in "abc":
        store = await EventStore.open(tmp_path / "relay.db")
        numbers += [placed.seq for placed in await store.insert(publications(note(content=content)))]
        await store.close()
    assert numbers == [1, 2, 3]


async def test_outcomes_are_told_in_the_order_of_the_batch(store):
    event, old, new = note(), note(kind=0, created_at=1), note(kind=0, created_at=2)
    placed = await store.insert(publications(event, event, new, old))
    assert [place.outcome for place in placed] == [
        Outcome.STORED,
        Outcome.DUPLICATE,
        Outcome.STORED,
        Outcome.SUPERSEDED,
    ]


async def test_raw_bytes_are_served_as_they_were_stored(store):
    event = note(content="as it was")
    await store.insert([Publication(event, b"{raw}")])
    numbers = await store.find([Filter()], 10, NOBODY)
    assert await store.load([*numbers, 99]) == [b"{raw}"]


SHAPES = [
    (
        {"#p": [BOB.public], "kinds": [6940, 6050, 7000]},
        "SEARCH tag USING PRIMARY KEY (name=? AND value=? AND kind=?",
    ),
    ({"#p": [BOB.public], "since": 5}, "SEARCH tag USING PRIMARY KEY (name=? AND value=?"),
    ({"#e": ["1" * 64, "2" * 64]}, "SEARCH tag USING PRIMARY KEY (name=? AND value=?"),
    ({"#e": ["1" * 64], "authors": [ALICE.public]}, "SEARCH tag USING PRIMARY KEY (name=? AND value=?"),
    ({"ids": ["1" * 64]}, "USING INDEX sqlite_autoindex_event_1 (id=?)"),
    ({"kinds": [11_998]}, "USING INDEX event_by_kind (kind=?)"),
    ({"kinds": [11_998, 31_990], "since": 5}, "USING INDEX event_by_kind (kind=? AND created_at>?)"),
    ({"authors": [ALICE.public], "kinds": [5]}, "USING INDEX event_by_author (pubkey=? AND kind=?)"),
    ({"authors": [ALICE.public, BOB.public]}, "USING INDEX event_by_author (pubkey=?)"),
    ({"since": 5}, "USING INDEX event_by_time (created_at>?)"),
    ({}, "USING INDEX event_by_time"),
]


@pytest.mark.parametrize(("raw", "step"), SHAPES)
@pytest.mark.parametrize(
    "withheld", [None, Withheld(frozenset(), 9), Withheld(frozenset({BOB.public}), 9)], ids=["all", "first", "next"]
)
def test_no_query_walks_the_whole_table(raw, step, withheld):
    database = sqlite3.connect(":memory:")
    for script in SCHEMA.migrations:
        database.executescript(script)
    query = newest(parse_filter(raw), 500, Reader(frozenset({ALICE.public}), 0), withheld)
    steps = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.values)]
    if withheld is not None:
        step = step.replace("event_by_kind", "event_private")
    assert any(step in line for line in steps), steps
    assert "SCAN event" not in steps, steps
    database.close()


@pytest.mark.parametrize(
    "raw", [{"kinds": [7, 8, 9]}, {"kinds": [8, 9], "limit": 4}, {"kinds": [7, 9], "until": 104}]
)
async def test_several_kinds_are_answered_as_one_with_the_newest_of_all(store, raw):
    events = [note(kind=7 + n % 3, content=str(n), created_at=100 + n // 4) for n in range(30)]
    await store.insert(publications(*events))
    wanted = parse_filter(raw)
    assert [one.kinds for one in apart(wanted)] == [frozenset({kind}) for kind in raw["kinds"]]
    matching = sorted(filter(wanted.matches, events), key=lambda event: (-event.created_at, event.id))
    found = await store.load(list(await store.find([wanted], 7, NOBODY)))
    assert found == [event.to_json() for event in matching[: raw.get("limit", 7)]]


def test_kinds_of_one_author_or_with_a_tag_or_too_many_are_not_taken_apart():
    for raw in ({"authors": [ALICE.public], "kinds": [1, 2]}, {"#p": [BOB.public], "kinds": [1, 2]}, {"kinds": [1]}):
        assert apart(parse_filter(raw)) == [parse_filter(raw)]
    assert len(apart(parse_filter({"kinds": list(range(17))}))) == 1
