"""What one connection reads comes once, and a lookup that fails or takes too long ends what asked for it alone."""

import asyncio
import sqlite3

import pytest
from relay_peer import ALICE, BOB, EVE, note, peer, proof

from pylon.nostr.event import Event
from pylon.relay import lookups, server
from pylon.relay.intake import Intake
from pylon.relay.limits import RelayLimits
from pylon.relay.outbox import Outbox
from pylon.relay.reading import Reading
from pylon.relay.rows import Publication
from pylon.relay.server import RelayServer
from pylon.relay.store import EventStore

JOB = {"kind": 5940, "tags": [("encrypted",), ("p", BOB.public)]}


@pytest.fixture
async def relay():
    async with RelayServer() as running:
        yield running


async def failing(*_: object):
    raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def held_back(monkeypatch):
    """Two events: the first was committed, the second says that it may be passed on."""
    insert, committed, passed_on = EventStore.insert, asyncio.Event(), asyncio.Event()

    async def slow(self, batch):
        placed = await insert(self, batch)
        committed.set()
        await passed_on.wait()
        return placed

    monkeypatch.setattr(EventStore, "insert", slow)
    return committed, passed_on


@pytest.mark.parametrize("keys", [[], [BOB], [BOB, EVE]])
async def test_an_event_that_is_found_before_it_is_passed_on_comes_once(relay, held_back, keys):
    committed, passed_on = held_back
    early, late = (note(content=text, **(JOB if keys else {})) for text in ("early", "late"))
    async with peer(relay) as writer, peer(relay) as reader:
        for key in keys[:1]:
            await reader.authenticate(key, relay.url)
        await writer.say("EVENT", early.to_dict())
        await committed.wait()
        assert await reader.request("s", {"kinds": [early.kind]}) == [early.id]
        # Whoever proves one more key is shown what that one may see besides.
        for key in keys[1:]:
            await reader.authenticate(key, relay.url)
        assert (await reader.count({}))[2] == {"count": 1}
        passed_on.set()
        assert await writer.hear() == ["OK", early.id, True, ""]
        await writer.publish(late)
        assert (await reader.hear())[2]["id"] == late.id


async def test_an_event_that_is_passed_on_while_more_is_looked_up_comes_once(relay, held_back, monkeypatch):
    (committed, passed_on), find, found = held_back, EventStore.find, asyncio.Event()

    async def slow(self, *wanted):
        if wanted[-1] is not None:
            await found.wait()
        return await find(self, *wanted)

    monkeypatch.setattr(EventStore, "find", slow)
    early, late = note(content="early", **JOB), note(content="late", **JOB)
    async with peer(relay) as writer, peer(relay) as reader:
        await reader.authenticate(BOB, relay.url)
        await writer.say("EVENT", early.to_dict())
        await committed.wait()
        assert await reader.request("s", {"kinds": [5940]}) == [early.id]
        await reader.authenticate(EVE, relay.url)
        passed_on.set()
        await writer.publish(late)
        found.set()
        assert (await reader.hear())[2]["id"] == late.id


async def test_what_one_key_opened_does_not_come_again_for_the_next(relay):
    ours = note(content="ours", kind=5940, tags=[("encrypted",), ("p", BOB.public), ("p", EVE.public)])
    hers = note(content="hers", kind=5940, tags=[("encrypted",), ("p", EVE.public)])
    async with peer(relay) as client:
        for event in (ours, hers):
            await client.publish(event)
        await client.authenticate(BOB, relay.url)
        assert await client.request("s", {"kinds": [5940]}) == [ours.id]
        await client.authenticate(EVE, relay.url)
        assert (await client.hear())[2]["id"] == hers.id
        assert (await client.count({}))[2] == {"count": 2}
        later = note(content="later", **JOB)
        await client.say("EVENT", later.to_dict())
        heard = [await client.hear() for _ in range(2)]
        assert [message[2]["id"] for message in heard if message[0] == "EVENT"] == [later.id]


async def test_an_event_that_is_passed_on_while_a_new_key_is_admitted_comes_once_a_subscription(relay, monkeypatch):
    find, asked, found = EventStore.find, asyncio.Event(), asyncio.Event()

    async def slow(self, *wanted):
        if wanted[-1] is not None and not asked.is_set():
            asked.set()
            await found.wait()
        return await find(self, *wanted)

    monkeypatch.setattr(EventStore, "find", slow)
    job = note(**JOB)
    async with peer(relay) as writer, peer(relay) as reader:
        for name in ("first", "second"):
            await reader.request(name, {"kinds": [5940]})
        await reader.say("AUTH", proof(reader, BOB, relay.url).to_dict())
        await asked.wait()
        await writer.publish(job)
        found.set()
        await reader.say("COUNT", "end", {})
        heard = []
        while (message := await reader.hear())[0] != "COUNT":
            heard.append(message)
        assert sorted(message[1] for message in heard if message[0] == "EVENT") == ["first", "second"]


async def test_a_relay_that_was_started_again_shows_a_new_key_what_was_stored_before(tmp_path):
    job = note(**JOB)
    async with RelayServer(tmp_path / "r.db") as relay, peer(relay) as writer:
        await writer.publish(job)
    async with RelayServer(tmp_path / "r.db") as relay, peer(relay) as reader:
        assert await reader.request("s", {"kinds": [5940]}) == []
        await reader.authenticate(BOB, relay.url)
        assert (await reader.hear())[2]["id"] == job.id


async def test_a_lookup_that_fails_keeps_no_room_for_what_came_meanwhile(monkeypatch):
    find, asked, fails = EventStore.find, asyncio.Event(), asyncio.Event()

    async def slow(self, *_):
        asked.set()
        await fails.wait()
        await failing()

    async with (
        RelayServer(limits=RelayLimits(queue_bytes=20_000)) as relay,
        peer(relay) as writer,
        peer(relay) as reader,
    ):
        monkeypatch.setattr(EventStore, "find", slow)
        for round_ in range(3):
            asked.clear()
            fails.clear()
            await reader.say("REQ", "s", {})
            await asked.wait()
            assert (await writer.publish(note(content=f"{round_}" + "x" * 12_000)))[0]
            fails.set()
            assert (await reader.hear())[:2] == ["CLOSED", "s"]
        monkeypatch.setattr(EventStore, "find", find)
        assert len(await reader.request("s", {})) == 3


async def test_a_lookup_that_fails_for_a_new_key_ends_that_subscription_alone(relay, monkeypatch):
    find = EventStore.find

    async def fails(self, filters, limit, reader, withheld=None):
        if withheld is not None and filters[0].since is None:
            await failing()
        return await find(self, filters, limit, reader, withheld)

    monkeypatch.setattr(EventStore, "find", fails)
    job = note(**JOB)
    async with peer(relay) as client:
        await client.request("broken", {"kinds": [5940]})
        await client.request("whole", {"kinds": [5940], "since": 1})
        assert (await client.authenticate(BOB, relay.url))[0]
        assert (await client.hear())[:2] == ["CLOSED", "broken"]
        await client.say("EVENT", job.to_dict())
        heard = [await client.hear() for _ in range(2)]
        assert sorted(message[0] for message in heard) == ["EVENT", "OK"]
        assert ["EVENT", "whole"] in [message[:2] for message in heard]


@pytest.mark.parametrize("step", ["find", "load"])
async def test_who_is_taken_off_the_list_while_stored_events_are_sent_gets_none_after_the_word(monkeypatch, step):
    monkeypatch.setattr(server, "RECHECK_S", 0.01)
    work, begun, goes_on = getattr(EventStore, step), asyncio.Event(), asyncio.Event()
    readers = {ALICE.public}
    async with RelayServer(allow_readers=readers) as relay, peer(relay) as reader:
        for text in "ab":
            await reader.publish(note(content=text))
        await reader.authenticate(ALICE, relay.url)

        async def slow(*wanted):
            done = await work(*wanted)
            begun.set()
            await goes_on.wait()
            return done

        monkeypatch.setattr(EventStore, step, slow)
        await reader.say("REQ", "s", {})
        await asyncio.wait_for(begun.wait(), 10)
        readers.clear()
        assert (await reader.hear())[:2] == ["CLOSED", "s"]
        goes_on.set()
        await reader.say("COUNT", "c", {})
        assert (await reader.hear())[:2] == ["CLOSED", "c"]


async def test_who_is_taken_off_the_list_between_two_stored_events_gets_no_second_one(monkeypatch):
    monkeypatch.setattr(server, "RECHECK_S", 0.01)
    room, waits, goes_on = Outbox.room_for_stored, asyncio.Event(), asyncio.Event()
    readers = {ALICE.public}

    async def second_waits(self):
        await room(self)
        if waits.is_set():
            await goes_on.wait()
        waits.set()

    monkeypatch.setattr(Outbox, "room_for_stored", second_waits)
    async with RelayServer(allow_readers=readers) as relay, peer(relay) as reader:
        for text in "ab":
            await reader.publish(note(content=text))
        await reader.authenticate(ALICE, relay.url)
        await reader.say("REQ", "s", {})
        assert (await reader.hear())[:2] == ["EVENT", "s"]
        readers.clear()
        assert (await reader.hear())[:2] == ["CLOSED", "s"]
        goes_on.set()
        await reader.say("COUNT", "c", {})
        assert (await reader.hear())[:2] == ["CLOSED", "c"]


def unsigned(number: int) -> Publication:
    event = Event(f"{number:064x}", ALICE.public, 1_000 + number, 1, (("t", str(number % 10)),), "", "0" * 128)
    return Publication(event, event.to_json())


async def test_what_takes_too_long_to_look_up_is_refused_and_the_rest_answered(monkeypatch):
    monkeypatch.setattr(lookups, "_LOOK_STEPS", 2_000)
    tags = [str(n) for n in range(10)]
    async with RelayServer(limits=RelayLimits(lookup_s=0)) as relay, peer(relay) as client:
        assert relay._shared is not None
        await relay._shared.store.insert([unsigned(n) for n in range(200)])
        refused = await client.count(*({"since": n} for n in range(20)))
        assert refused[:2] == ["CLOSED", "count"] and "ask for less" in refused[2]
        nobody = [{"authors": [BOB.public], "kinds": [1], "#t": tags, "since": n} for n in range(20)]
        assert "ask for less" in await client.fetch(*nobody)
        assert await client.fetch({"ids": [f"{7:064x}"]}) == [f"{7:064x}"]
        assert await client.count({"ids": [f"{7:064x}"]}) == ["COUNT", "count", {"count": 1}]


async def test_a_fault_with_one_reader_keeps_an_event_from_no_other(relay, monkeypatch, caplog):
    deliver = Reading.deliver

    def faulty(self, name, *event, **more):
        if name == "faulty":
            raise LookupError("a fault of ours")
        deliver(self, name, *event, **more)

    monkeypatch.setattr(Reading, "deliver", faulty)
    async with peer(relay) as client:
        for name in ("faulty", "whole"):
            await client.request(name, {})
        for event in (note(content="stored"), note(kind=20_001)):
            await client.say("EVENT", event.to_dict())
            heard = [await client.hear() for _ in range(2)]
            assert {message[0] for message in heard} == {"OK", "EVENT"}
    assert "could not be delivered" in caplog.text


@pytest.mark.parametrize("stored", [True, False])
async def test_whoever_cannot_be_told_of_an_event_does_not_end_the_taking_of_others(tmp_path, stored):
    store = await EventStore.open(tmp_path / "relay.db")
    if not stored:
        store.insert = failing
    said, delivered = [], []

    def tell(accepted: bool, text: str) -> None:
        said.append(accepted)
        if len(said) < 3:
            raise LookupError("a fault of ours")

    intake = Intake(store, lambda event, raw, seq: delivered.append(event.content), max_bytes=1)
    running = asyncio.create_task(intake.run())
    for text in "abcd":
        event = note(content=text)
        intake.submit(event, event.to_json(), tell)
        async with asyncio.timeout(10):
            await intake.drain()
    assert said == [stored] * 4
    assert delivered == (list("abcd") if stored else [])
    assert intake.has_room()
    running.cancel()
    await store.close()
