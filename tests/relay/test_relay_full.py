"""A relay whose store is bounded: what it refuses, what it still takes, and that the file keeps within its bound."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from pylon.clock import SystemClock
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.relay.limits import RelayLimits
from pylon.relay.queries import Reader
from pylon.relay.retention import SOON_S, Known, Outcome, Space, address, plan
from pylon.relay.rows import Publication
from pylon.relay.server import RelayServer
from pylon.relay.store import EventStore
from tests.relay.relay_peer import ALICE, BOB, note, peer

NOW = 1_000_000
MB = 1024 * 1024
NOBODY = Reader(frozenset(), NOW)


@st.composite
def batches(draw):
    """Events of two authors, what each takes in the store, and how full that is."""
    events, sizes = [], {}
    for number in range(draw(st.integers(0, 20))):
        ends = draw(st.sampled_from([None, NOW + 1, NOW + SOON_S, NOW + SOON_S + 1]))
        tags = () if ends is None else (("expiration", str(ends)),)
        kind = draw(st.sampled_from([0, 1, 5, 30_000]))
        event = Event(f"{number:064x}", draw(st.sampled_from("ab")) * 64, draw(st.integers(0, 5)), kind, tags, "", "")
        events.append(event)
        sizes[event.id] = draw(st.integers(1, 40))
    return events, sizes, draw(st.integers(0, 200)), draw(st.integers(0, 220))


def grown(events, outcomes, sizes):
    """By how many bytes the store is larger, in the plainest words."""
    heads, total = {}, 0
    for event, outcome in zip(events, outcomes, strict=True):
        if outcome is Outcome.STORED:
            where = address(event)
            total += sizes[event.id] - (heads.get(where, 0) if where else 0)
            if where:
                heads[where] = sizes[event.id]
    return total


@given(batches())
def test_nothing_is_taken_beyond_the_bound_and_nothing_is_refused_that_fits(case):
    events, sizes, bound, used = case
    space = Space(bound, used, NOW)
    outcomes = plan(events, Known(sizes=dict(sizes)), space).outcomes
    assert space.used == used + grown(events, outcomes, sizes)
    assert space.used <= max(bound, used)
    for number, (event, outcome) in enumerate(zip(events, outcomes, strict=True)):
        before = used + grown(events[:number], outcomes[:number], sizes)
        soon = event.kind != 5 and any(int(tag[1]) <= NOW + SOON_S for tag in event.tags)
        most = bound if soon else bound - bound // 10
        after = used + grown(events[: number + 1], [*outcomes[:number], Outcome.STORED], sizes)
        if outcome is Outcome.FULL:
            assert after > max(most, before)
        elif outcome is Outcome.STORED:
            assert after <= max(most, before)


@given(batches())
def test_a_store_with_room_for_all_keeps_what_one_without_a_bound_keeps(case):
    events, sizes, _, used = case
    space = Space(10_000, used, NOW)
    assert plan(events, Known(sizes=dict(sizes)), space) == plan(events, Known())


async def test_a_flood_that_would_stay_for_ever_leaves_room_for_jobs(tmp_path):
    path, bound = tmp_path / "relay.db", 2 * MB
    async with RelayServer(path, limits=RelayLimits(store_bytes=bound)) as relay, peer(relay) as client:
        profile = note(BOB, kind=0, content="x" * 1_000, created_at=1)
        assert await client.publish(profile) == (True, "")
        said = [await client.publish(note(content=f"{n:050000}")) for n in range(60)]
        full = (False, "error: this relay is full and has no room for the event; try again later")
        assert said[0] == (True, "")
        assert said[-1] == full
        assert sum(ok for ok, _ in said) > 25
        # What was acknowledged is still there.
        assert len(await client.fetch({"kinds": [1], "limit": 100})) == sum(ok for ok, _ in said)
        soon = [("expiration", str(int(time.time()) + 600))]
        assert await client.publish(note(kind=5050, content="a job", tags=soon)) == (True, "")
        assert await client.publish(note(kind=20_001)) == (True, "")
        # A deletion request stays, whatever it says of its end.
        named = [("e", f"{n:064x}") for n in range(400)]
        assert await client.publish(note(kind=5, tags=[*soon, *named])) == full
        assert await client.publish(note(kind=5050, content="x" * 60_000, tags=soon)) == (True, "")
        for n in range(30):
            await client.publish(note(kind=5050, content=f"{n:060000}", tags=soon))
        assert await client.publish(note(kind=5050, content="z" * 60_000, tags=soon)) == full
        assert await client.publish(note(BOB, kind=0, content="y" * 1_000, created_at=2)) == (True, "")
    assert path.stat().st_size <= bound + 64 * 1024


class LaterClock(SystemClock):
    """A fake: a wall clock that a test sets ahead."""

    ahead = 0.0

    def wall(self):
        return super().wall() + self.ahead


async def test_what_has_expired_goes_before_anything_is_refused(tmp_path):
    clock = LaterClock()
    store = await EventStore.open(tmp_path / "relay.db", max_bytes=MB, clock=clock)

    async def put(content, stays):
        event = note(content=content, tags=[("expiration", str(int(clock.wall()) + stays))])
        [placed] = await store.insert([Publication(event, event.to_json())])
        return placed.outcome

    outcomes = [await put(f"{n:050000}", 60) for n in range(30)]
    assert outcomes[-1] is Outcome.FULL
    clock.ahead = 61
    assert await put("x" * 50_000, 60) is Outcome.STORED
    await store.close()


async def test_a_batch_of_costly_events_does_not_run_past_the_bound(tmp_path):
    path, bound = tmp_path / "relay.db", MB
    store = await EventStore.open(path, max_bytes=bound)
    batch = []
    for n in range(100):
        tags = [("t", f"{n}-{m}") for m in range(500)]
        event = note(tags=tags) if n % 2 else note(kind=5, tags=[("e", f"{n * 500 + m:064x}") for m in range(500)])
        batch.append(Publication(event, event.to_json()))
    outcomes = {placed.outcome for placed in await store.insert(batch)}
    assert outcomes == {Outcome.STORED, Outcome.FULL}
    await store.close()
    assert path.stat().st_size <= bound


async def test_a_relay_takes_only_the_kinds_that_it_names(tmp_path):
    limits = RelayLimits(kinds=frozenset({5050}))
    async with RelayServer(limits=limits) as relay, peer(relay) as client:
        assert await client.publish(note(ALICE, kind=5050)) == (True, "")
        assert await client.publish(note(ALICE)) == (False, "blocked: this relay does not take events of kind 1")
        assert await client.publish(note(ALICE, kind=20_001)) == (
            False,
            "blocked: this relay does not take events of kind 20001",
        )
        # Whoever proves a key sends kind 22242, which is not published.
        assert (await client.authenticate(ALICE, relay.url))[0]


def job_kinds(clock, days_ago, author=ALICE, **fields):
    return note(author, created_at=int(clock.wall() - 86_400 * days_ago), **fields)


async def test_where_room_is_scarce_jobs_of_over_a_week_ago_go_and_nothing_else():
    clock = LaterClock()
    with TemporaryDirectory() as folder:
        store = await EventStore.open(Path(folder) / "relay.db", max_bytes=MB, clock=clock)

        async def put(*events):
            return [placed.outcome for placed in await store.insert([Publication(e, e.to_json()) for e in events])]

        async def here(*events):
            return set(await store.load(list(await store.find([Filter()], 500, NOBODY)))) >= {
                e.to_json() for e in events
            }

        old = [job_kinds(clock, 9, kind=kind, content="x" * 1_000) for kind in (5_050, 6_050, 7_000)]
        fresh = [job_kinds(clock, 6, kind=5_050), job_kinds(clock, 400), job_kinds(clock, 9, kind=4_999)]
        gone = note(kind=5_050, content="cancelled", created_at=int(clock.wall()) - 9 * 86_400)
        cancelling = job_kinds(clock, 9, kind=5, tags=[("e", gone.id), ("k", "5050")])
        unwritten = note(content="deleted")
        deleting = job_kinds(clock, 9, kind=5, tags=[("e", unwritten.id), ("k", "1")])
        await put(*old, *fresh, cancelling, deleting)
        now = int(clock.wall())
        assert await store.make_room(now) == 0
        assert Outcome.FULL in await put(*(note(content=f"{n:050000}") for n in range(20)))
        assert await store.make_room(now) == 4
        assert await store.make_room(now) == 0
        assert await here(*fresh, deleting)
        assert not any([await here(event) for event in (*old, cancelling)])
        # What was cancelled so long ago may come again, and what else was deleted may not.
        assert await put(unwritten, gone) == [Outcome.DELETED, Outcome.STORED]
        await store.close()


async def test_a_relay_that_is_nearly_full_makes_room_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("pylon.relay.server.PURGE_S", 0.01)
    path, week = tmp_path / "relay.db", int(time.time()) - 8 * 86_400
    async with RelayServer(path, limits=RelayLimits(store_bytes=MB)) as relay, peer(relay) as client:
        for n in range(60):
            taken, last = False, note(kind=6_050, content=f"{n:050000}", created_at=week)
            async with asyncio.timeout(20):
                while not taken:
                    taken, _ = await client.publish(last)
        assert last.id in await client.fetch({"kinds": [6_050]})
    assert path.stat().st_size <= MB
