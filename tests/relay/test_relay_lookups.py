"""Wide lookups wait for each other alone, are bounded in number, and end when whoever asked has hung up."""

import asyncio
import sqlite3
import threading

import pytest

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.relay import lookups
from pylon.relay.lookups import Lookups, took_too_long
from pylon.relay.queries import Reader
from pylon.relay.rows import Publication
from pylon.relay.store import EventStore
from tests.relay.relay_peer import ALICE
from tests.waiting import until

NOBODY = Reader(frozenset(), 0)
# Answered by an index, and by a walk.
QUICK, WIDE = Filter(ids=frozenset({f"{7:064x}"})), Filter(since=1, tags={"x": frozenset(map(str, range(10)))})


@pytest.fixture
async def store(tmp_path, monkeypatch):
    monkeypatch.setattr(lookups, "_LOOK_STEPS", 2_000)
    monkeypatch.setattr(lookups, "_QUICK_S", 0)
    opened = await EventStore.open(tmp_path / "relay.db", lookup_s=60)
    events = [
        Event(f"{n:064x}", ALICE.public, 1_000 + n, 1, (("x", str(n % 10)),), "", "0" * 128) for n in range(500)
    ]
    await opened.insert([Publication(event, event.to_json()) for event in events])
    yield opened
    await opened.close()


@pytest.fixture
def held(monkeypatch):
    """Holds the wide ones back; how many have been let through to their connection."""
    bounded, go, begun = Lookups._bounded, threading.Event(), []

    def slow(self, connection, queries, most_s, gone=None):
        if gone is not None:
            begun.append(gone)
            go.wait(20)
        return bounded(self, connection, queries, most_s, gone)

    monkeypatch.setattr(Lookups, "_bounded", slow)
    yield go, begun
    go.set()


async def test_a_wide_lookup_is_answered_and_holds_up_no_other(store, held):
    go, begun = held
    wide = asyncio.create_task(store.find([WIDE], 10, NOBODY))
    async with asyncio.timeout(10):
        await until(lambda: begun)
        assert len(await store.find([QUICK], 10, Reader(frozenset(), 0))) == 1
        assert not wide.done()
        go.set()
        assert len(await wide) == 10


async def test_of_too_many_wide_lookups_the_last_is_refused_at_once(store, held):
    go, _ = held
    waiting = [asyncio.create_task(store.find([WIDE], 10, NOBODY)) for _ in range(16)]
    async with asyncio.timeout(10):
        await until(lambda: len(store._lookups._waiting) >= 16)
        with pytest.raises(sqlite3.Error) as caught:
            await store.find([WIDE], 10, NOBODY)
        assert took_too_long(caught.value)
        go.set()
        assert all(len(found) == 10 for found in await asyncio.gather(*waiting))
        assert len(await store.find([WIDE], 10, NOBODY)) == 10


async def test_whoever_had_a_wide_lookup_takes_no_time_of_others_with_the_next_one(store, monkeypatch):
    tried, bounded = [], Lookups._bounded

    def counted(self, connection, queries, most_s, gone=None):
        tried.append("quick" if gone is None else "wide")
        return bounded(self, connection, queries, most_s, gone)

    monkeypatch.setattr(Lookups, "_bounded", counted)
    greedy = Reader(frozenset(), 0)
    for filter_ in (WIDE, WIDE, QUICK):
        assert await store.find([filter_], 10, greedy)
    assert await store.find([QUICK], 10, Reader(frozenset(), 0))
    assert tried == ["quick", "wide", "wide", "wide", "quick"]
    monkeypatch.setattr(lookups, "_WIDE_FOR_S", 0.0)
    del store._lookups._wide_until[greedy.client]
    for filter_ in (WIDE, QUICK):
        assert await store.find([filter_], 10, greedy)
    assert tried[5:] == ["quick", "wide", "quick"]


async def test_who_hangs_up_keeps_its_place_until_its_lookup_is_broken_off(store, held):
    go, begun = held
    asking = asyncio.create_task(store.find([WIDE], 10, NOBODY))
    async with asyncio.timeout(10):
        await until(lambda: begun)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        [looking] = store._lookups._waiting
        assert begun[0].is_set()
        go.set()
        with pytest.raises(sqlite3.Error) as caught:
            await looking
        assert took_too_long(caught.value)
        await asyncio.sleep(0)
        assert not store._lookups._waiting


async def test_a_store_is_closed_while_somebody_looks_something_up(store, held):
    go, begun = held
    asking = asyncio.create_task(store.find([WIDE], 10, NOBODY))
    async with asyncio.timeout(20):
        await until(lambda: begun)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0.05)
        go.set()
        await closing
        with pytest.raises((asyncio.CancelledError, sqlite3.Error)):
            await asking
