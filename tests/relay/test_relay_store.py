"""The file: what is kept, what is purged, and that indexes are used."""

import sqlite3
from contextlib import closing

import pytest
from relay_peer import ALICE, BOB, note

from pylon.nostr.filter import Filter, parse_filter
from pylon.relay.queries import Privacy, Reader, newest
from pylon.relay.retention import Outcome
from pylon.relay.store import SCHEMA, EventStore, Publication

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
@pytest.mark.parametrize("privacy", Privacy)
def test_no_query_walks_the_whole_table(raw, step, privacy):
    database = sqlite3.connect(":memory:")
    for script in SCHEMA.migrations:
        database.executescript(script)
    query = newest(parse_filter(raw), 500, Reader(frozenset({ALICE.public}), 0), privacy)
    steps = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query.where}", query.values)]
    assert any(step in line for line in steps), steps
    assert "SCAN event" not in steps, steps
    database.close()
