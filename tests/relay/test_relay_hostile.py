"""Peers that break every rule: the relay stays, and says why."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing

import orjson
import pytest
from relay_peer import ALICE, note, peer
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pylon.relay import server, session
from pylon.relay.intake import fitting
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from pylon.relay.session import LAGGING
from pylon.relay.store import EventStore
from tests.waiting import until


@pytest.fixture
async def relay():
    async with RelayServer() as running:
        yield running


GARBAGE = [
    "",
    "x",
    "null",
    "{}",
    "[]",
    "[1]",
    '["EVENT"]',
    '["EVENT",1]',
    '["EVENT",{}]',
    '["EVENT",{"id":"' + "0" * 64 + '"},1]',
    '["REQ"]',
    '["REQ",""]',
    '["REQ","s"]',
    '["REQ","s",1]',
    '["REQ","s",{"kinds":"1"}]',
    '["REQ","s",{"limit":-1}]',
    '["REQ","s",{"search":"x"}]',
    '["REQ","s",{"#p":[1]}]',
    '["REQ","' + "s" * 65 + '",{}]',
    '["REQ","s"' + ",{}" * 21 + "]",
    '["COUNT","s"]',
    '["CLOSE"]',
    '["CLOSE",1]',
    '["AUTH","x"]',
    '["NEG-OPEN","s",{},"61"]',
    "[" * 60_000,
    '["EVENT",' + "[" * 1_000 + "]" * 1_000 + "]",
    '["REQ","s",{"#p":["\\ud800"]}]',
    '["EVENT",{"created_at":1e400}]',
    '["REQ","s",{"kinds":[true]}]',
    '["REQ","s",{"since":99999999999999999999}]',
]


async def test_garbage_is_answered_and_the_connection_goes_on(relay):
    async with peer(relay) as client:
        for frame in GARBAGE:
            await client.websocket.send(frame)
            answer = await client.hear()
            assert answer[0] in ("NOTICE", "CLOSED", "OK"), (frame[:80], answer)
            assert answer[-1].startswith("invalid:"), (frame[:80], answer)
        assert (await client.publish(note()))[0]


async def test_a_bad_req_is_closed_by_name_and_a_bad_event_refused_by_id(relay):
    async with peer(relay) as client:
        await client.say("REQ", "named", {"kinds": "1"})
        assert (await client.hear())[:2] == ["CLOSED", "named"]
        await client.say("EVENT", {"id": "a" * 64})
        assert (await client.hear())[:3] == ["OK", "a" * 64, False]


async def test_a_message_over_the_limit_ends_the_connection_with_1009(relay):
    async with peer(relay) as client:
        await client.websocket.send("x" * 131_073)
        with pytest.raises(ConnectionClosed) as caught:
            await client.hear()
        assert caught.value.rcvd.code == 1009
    async with peer(relay) as client:
        assert (await client.publish(note()))[0]


async def test_an_event_over_the_limit_is_refused_and_one_just_under_it_is_taken(relay):
    async with peer(relay) as client:
        accepted, text = await client.publish(note(content="x" * 65_536))
        assert (accepted, text[:8]) == (False, "invalid:")
        assert (await client.publish(note(content="x" * 65_000)))[0]


async def test_a_binary_frame_ends_the_connection_with_1003(relay):
    async with peer(relay) as client:
        await client.websocket.send(b'["REQ","s",{}]')
        with pytest.raises(ConnectionClosed) as caught:
            await client.hear()
        assert caught.value.rcvd.code == 1003


async def test_text_that_is_not_utf8_ends_the_connection_and_not_the_relay(relay):
    async with peer(relay) as client:
        await client.websocket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed):
            await client.hear()
    async with peer(relay) as client:
        assert (await client.publish(note()))[0]


async def test_of_10_000_subscriptions_only_as_many_as_allowed_are_open(relay):
    async with peer(relay) as client:

        async def ask():
            for n in range(10_000):
                await client.say("REQ", f"s{n}", {"kinds": [n]})

        asking = asyncio.create_task(ask())
        closed = 0
        for _ in range(10_000):
            closed += (await client.hear())[0] == "CLOSED"
        await asking
        assert closed == 10_000 - RelayLimits().subscriptions
        await client.say("CLOSE", "s0")
        assert await client.request("again", {"kinds": [1]}) == []


async def test_filters_with_too_many_values_are_refused(relay):
    async with peer(relay) as client:
        filters = [{"kinds": list(range(800))} for _ in range(4)]
        assert (await client.fetch(*filters)).startswith("invalid:")
        assert (await client.count(*filters))[0] == "CLOSED"


async def test_a_relay_with_few_filters_allowed_says_so():
    async with RelayServer(limits=RelayLimits(filters=2)) as relay, peer(relay) as client:
        assert (await client.fetch({}, {}, {})).startswith("invalid:")
        assert await client.fetch({}, {}) == []


async def test_one_connection_too_many_is_answered_503():
    async with RelayServer(limits=RelayLimits(connections=1)) as relay, peer(relay):
        with pytest.raises(InvalidStatus) as caught:
            async with peer(relay):
                pass
        assert caught.value.response.status_code == 503


async def test_a_reader_that_lags_is_told_so_and_finds_everything_when_it_is_back():
    events = [note(content=str(n) + "x" * 30_000, kind=1, tags=[("p", ALICE.public)]) for n in range(400)]
    limits = RelayLimits(queue_bytes=1_000_000)
    async with RelayServer(limits=limits) as relay, peer(relay) as writer:
        async with peer(relay, max_queue=1) as slow:
            await slow.request("s", {"kinds": [1], "#p": [ALICE.public]})
            for event in events:
                assert (await writer.publish(event))[0]
            heard = []
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    heard.append(await slow.hear())
            assert caught.value.rcvd.code == 1013
            assert caught.value.rcvd.reason == LAGGING
            assert heard[-1] == ["NOTICE", f"error: {LAGGING}"]
            got = [message[2]["id"] for message in heard[:-1]]
            assert got == [event.id for event in events[: len(got)]]
            assert len(got) < len(events)
        async with peer(relay) as back:
            assert set(await back.fetch({"#p": [ALICE.public]})) == {event.id for event in events}


async def test_a_reader_that_reads_nothing_slows_neither_others_nor_the_stop(monkeypatch):
    monkeypatch.setattr(server, "_GOODBYE_S", 0.2)
    async with peer_that_reads_nothing() as relay:
        async with peer(relay) as writer, peer(relay) as live:
            await live.request("s", {"kinds": [1]})
            for n in range(250):
                await writer.publish(note(content=str(n) + "x" * 60_000))
                assert (await live.hear())[0] == "EVENT"
        async with asyncio.timeout(5):
            await relay.stop()


@asynccontextmanager
async def peer_that_reads_nothing():
    relay = RelayServer(limits=RelayLimits(queue_bytes=200_000))
    await relay.start()
    async with connect(relay.url, compression=None) as websocket:
        await websocket.send('["REQ","s",{"kinds":[1]}]')
        while not (await websocket.recv()).startswith('["EOSE"'):
            pass
        websocket.transport.pause_reading()
        yield relay
        websocket.transport.abort()


async def test_a_long_stored_answer_waits_for_a_slow_reader_instead_of_closing_it():
    async with RelayServer(limits=RelayLimits(queue_bytes=200_000)) as relay:
        async with peer(relay) as writer, peer(relay, max_queue=1) as slow:
            events = [note(content=str(n) + "x" * 30_000) for n in range(200)]
            for event in events:
                await writer.publish(event)
            await slow.say("REQ", "s", {})
            await asyncio.sleep(0.1)
            ids = set()
            while (message := await slow.hear())[0] == "EVENT":
                ids.add(message[2]["id"])
            assert message == ["EOSE", "s"]
            assert ids == {event.id for event in events}


async def test_a_publisher_that_never_reads_its_answers_stops_being_read_from():
    async with RelayServer(limits=RelayLimits(queue_bytes=100_000)) as relay, peer(relay, max_queue=1) as rude:
        frame = orjson.dumps(["REQ", "s" * 64, {"kinds": "x"}]).decode()

        async def push():
            while True:
                await rude.websocket.send(frame)

        pushing = asyncio.create_task(push())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(pushing)
        async with peer(relay) as other:
            assert (await other.publish(note()))[0]
        pushing.cancel()
        rude.websocket.transport.abort()


async def test_live_events_wait_behind_a_long_stored_answer_and_come_after_it():
    async with RelayServer(limits=RelayLimits(queue_bytes=2_000_000)) as relay:
        async with peer(relay) as writer, peer(relay, max_queue=1) as slow:
            stored = [note(content=f"{n}" + "x" * 60_000) for n in range(200)]
            live = [note(content=f"live {n}", kind=2 if n % 2 else 20_001) for n in range(20)]
            for event in stored:
                await writer.publish(event)
            await slow.say("REQ", "s", {"kinds": [1, 2, 20_001]})
            first = await slow.hear()
            for event in live:
                await writer.publish(event)
            heard = [first] + [await slow.hear() for _ in range(220)]
        assert [message[0] for message in heard].index("EOSE") == 200
        assert {message[2]["id"] for message in heard[:200]} == {event.id for event in stored}
        assert [message[2]["id"] for message in heard[201:]] == [event.id for event in live]


async def test_a_reader_that_lags_while_stored_events_are_sent_is_closed_with_a_reason_too():
    async with RelayServer(limits=RelayLimits(queue_bytes=300_000)) as relay:
        async with peer(relay) as writer, peer(relay, max_queue=1) as slow:
            for n in range(200):
                await writer.publish(note(content=f"{n}" + "x" * 60_000))
            await slow.say("REQ", "s", {"kinds": [1]})
            await slow.hear()
            for n in range(10):
                await writer.publish(note(content=f"live {n}" + "x" * 60_000))
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    await slow.hear()
            assert caught.value.rcvd.code == 1013


async def test_a_deaf_peer_that_lags_is_cut_off(monkeypatch):
    monkeypatch.setattr(session, "_CLOSE_S", 0.1)
    async with peer_that_reads_nothing() as relay, peer(relay) as writer:
        assert relay.connections == 2
        for n in range(250):
            await writer.publish(note(content=str(n) + "x" * 60_000))
        await until(lambda: relay.connections <= 1)
        await relay.stop()


async def test_a_relay_whose_file_fails_says_so_and_goes_on(tmp_path):
    async with RelayServer(tmp_path / "relay.db") as relay, peer(relay) as client:

        def damage() -> None:
            with closing(sqlite3.connect(tmp_path / "relay.db")) as other:
                other.execute("BEGIN IMMEDIATE")
                other.execute("DROP TABLE tag")
                other.commit()

        # In a thread: a relay that is in the middle of a transaction needs this loop to end it.
        await asyncio.to_thread(damage)
        accepted, text = await client.publish(note(tags=[("t", "a")]))
        assert (accepted, text[:6]) == (False, "error:")
        assert (await client.fetch({"#t": ["a"]}))[:6] == "error:"
        assert (await client.count({"#t": ["a"]}))[0] == "CLOSED"
        assert (await client.publish(note(kind=20_001)))[0]


async def test_when_much_waits_to_be_stored_publishers_wait_and_all_is_stored():
    async with RelayServer(limits=RelayLimits(waiting_bytes=1, in_flight=2)) as relay, peer(relay) as client:
        for n in range(50):
            await client.say("EVENT", note(content=str(n)).to_dict())
        for _ in range(50):
            assert (await client.hear())[2]
        assert await client.count({}) == ["COUNT", "count", {"count": 50}]


def test_an_event_with_very_many_tags_fills_a_transaction_by_itself():
    few, many = note(tags=[["t", "x"]] * 3), note(tags=[["t", "x"]] * 5_000)
    assert fitting([few] * 256, 2_000) == 256
    assert fitting([few, few, many, few], 2_000) == 2
    assert fitting([many, many], 2_000) == 1
    assert fitting([], 2_000) == 0


async def test_a_flood_of_events_with_very_many_tags_is_stored_in_many_short_turns(relay, monkeypatch):
    insert, batches = EventStore.insert, []

    async def counted(self, batch):
        batches.append([len(publication.event.tags) for publication in batch])
        return await insert(self, batch)

    monkeypatch.setattr(EventStore, "insert", counted)
    flood = [note(content=str(n), tags=[["t", f"{n}-{m}"] for m in range(900)]).to_dict() for n in range(40)]
    async with peer(relay) as hostile:
        for event in flood:
            await hostile.say("EVENT", event)
        assert all([(await hostile.hear())[2] for _ in flood])
    assert max(map(sum, batches)) <= 2_000
