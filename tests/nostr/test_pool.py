import asyncio
from contextlib import asynccontextmanager

import pytest

from pylon.errors import RelayError, UnreachableError
from pylon.nostr.client.backoff import Backoff
from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from tests.nostr.scripted import ScriptedRelay, polite
from tests.waiting import pass_time, until

QUICK = Backoff(first=0.02, most=0.05)
KEY = SecretKey(bytes(31) + b"\x07")
NOTES = (Filter(kinds=frozenset({1})),)


def note(text: str = "hello") -> Event:
    return KEY.sign(EventDraft(1, text))


def serving(*events: dict):
    def answer(relay, socket, message):
        if message[0] == "REQ":
            return [*(["EVENT", message[1], event] for event in events), ["EOSE", message[1]]]
        return polite(relay, socket, message)

    return answer


@asynccontextmanager
async def pooled(*relays: ScriptedRelay):
    pool = RelayPool([relay.url for relay in relays], backoff=QUICK)
    pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def test_an_event_of_two_relays_arrives_once():
    first, second = note("first"), note("second")
    async with (
        ScriptedRelay(serving(first.to_dict())) as a,
        ScriptedRelay(serving(first.to_dict(), second.to_dict())) as b,
        pooled(a, b) as pool,
    ):
        subscription = pool.subscribe(lambda: NOTES)
        got = [await asyncio.wait_for(anext(subscription), 10) for _ in range(2)]
        assert {received.event for received in got} == {first, second}
        await relay_silence(subscription)
        await subscription.close()


async def relay_silence(subscription) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(subscription), 0.2)


async def test_a_forged_copy_that_comes_first_does_not_hide_the_true_event():
    true = note("true")
    forged = {**true.to_dict(), "content": "forged"}
    async with ScriptedRelay(serving(forged, true.to_dict())) as relay, pooled(relay) as pool:
        subscription = pool.subscribe(lambda: NOTES)
        assert (await asyncio.wait_for(anext(subscription), 10)).event == true
        await relay_silence(subscription)
        await subscription.close()


async def test_closing_a_subscription_frees_a_connection_that_waits_for_room_in_it(monkeypatch):
    monkeypatch.setattr("pylon.nostr.pool_subscription.QUEUE_EVENTS", 1)
    events = [note(str(n)).to_dict() for n in range(5)]
    async with ScriptedRelay(serving(*events)) as relay, pooled(relay) as pool:
        subscription = pool.subscribe(lambda: NOTES)
        await until(lambda: subscription._is_full)
        await subscription.close()
        assert await pool.publish(note(), timeout=10)


async def test_a_relay_whose_reader_is_behind_is_not_read_and_nothing_of_it_is_lost(monkeypatch):
    monkeypatch.setattr("pylon.nostr.pool_subscription.QUEUE_EVENTS", 2)
    events = [note(f"{n}:{'x' * 200_000}").to_dict() for n in range(150)]
    async with ScriptedRelay(serving(*events)) as relay, pooled(relay) as pool:
        subscription = pool.subscribe(lambda: NOTES)
        await relay.until(lambda: relay.of("REQ"))
        await until(lambda: relay.sockets[0].transport.get_write_buffer_size())
        # It goes on waiting for as long as nobody takes anything.
        await asyncio.sleep(0.2)
        assert relay.sockets[0].transport.get_write_buffer_size()
        got = [(await asyncio.wait_for(anext(subscription), 10)).event.id for _ in events]
        assert got == [event["id"] for event in events]
        await subscription.close()


async def test_publish_returns_at_the_first_ok_though_another_relay_is_silent():
    async with ScriptedRelay() as good, ScriptedRelay(lambda *_: []) as silent, pooled(good, silent) as pool:
        await pool.wait_open()
        assert await pool.publish(note(), timeout=10) == [good.url]


@pytest.mark.parametrize("relays", [1, 2])
async def test_a_publication_that_is_given_up_goes_out_nowhere(relays, monkeypatch):
    pool = RelayPool([f"ws://127.0.0.1:{port}" for port in range(1, relays + 1)])
    opens, waiting, sent = asyncio.Event(), [], []

    async def publish(connection, event, **_):
        waiting.append(connection.url)
        await opens.wait()
        sent.append(connection.url)

    monkeypatch.setattr(RelayConnection, "publish", publish)
    publishing = asyncio.create_task(pool.publish(note()))
    while len(waiting) < relays:
        await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    opens.set()
    while pool._publishing:
        await asyncio.sleep(0)
    assert sent == []
    # One that a relay has taken is anybody's: the others go on.
    assert await pool.publish(note()) and len(sent) == relays
    await pool.close()


async def test_publish_says_whether_one_of_several_relays_may_have_it(monkeypatch):
    def refuse(relay, socket, message):
        return [["OK", message[1]["id"], False, "blocked: no"]]

    for other, may_have in ((refuse, False), (lambda *_: [], True)):
        async with ScriptedRelay(refuse) as a, ScriptedRelay(other) as b, pooled(a, b) as pool:
            await pool.opened(10)
            publishing = asyncio.create_task(pool.publish(note(), timeout=5))
            await b.until(lambda b=b: b.of("EVENT"))
            await until(lambda a=a, pool=pool: not pool._connections[a.url]._publications._open)
            pass_time(monkeypatch, 5)
            with pytest.raises(RelayError, match="blocked") as failed:
                await publishing
            assert failed.value.may_have_arrived is may_have


async def test_publish_raises_when_every_relay_refused():
    def refuse(relay, socket, message):
        return [["OK", message[1]["id"], False, "blocked: no"]]

    async with ScriptedRelay(refuse) as a, ScriptedRelay(refuse) as b, pooled(a, b) as pool:
        with pytest.raises(RelayError, match="no relay took the event"):
            await pool.publish(note())


async def test_a_query_joins_what_relays_have_and_drops_what_is_forged():
    first, second = note("first"), note("second")
    forged = {**note("third").to_dict(), "content": "changed"}
    async with ScriptedRelay(serving(first.to_dict(), forged)) as a, ScriptedRelay(serving(second.to_dict())) as b:
        async with pooled(a, b) as pool:
            assert {event.content for event in await pool.query(NOTES)} == {"first", "second"}


async def test_a_query_is_answered_by_the_relays_that_are_there(monkeypatch):
    event = note()
    async with ScriptedRelay(serving(event.to_dict())) as good, ScriptedRelay(lambda *_: []) as silent:
        async with pooled(good, silent) as pool:
            asking = asyncio.create_task(pool.query(NOTES, timeout=5))
            # It has all that this one has.
            await good.until(lambda: good.of("CLOSE"))
            pass_time(monkeypatch, 5)
            assert await asking == [event]


async def test_a_batch_is_what_is_there_up_to_its_limit():
    events = [note(str(n)) for n in range(5)]
    async with ScriptedRelay(serving(*(event.to_dict() for event in events))) as relay, pooled(relay) as pool:
        subscription = pool.subscribe(lambda: NOTES)
        await asyncio.wait_for(subscription.caught_up.wait(), 10)
        batches = [await subscription.next_batch(3) for _ in range(2)]
        assert [[received.event for received in batch] for batch in batches] == [events[:3], events[3:]]
        await subscription.close()


async def test_only_relays_of_the_pool_can_be_named():
    async with ScriptedRelay() as a, ScriptedRelay() as b, pooled(a, b) as pool:
        await pool.wait_open()
        assert await pool.publish(note(), relays=[b.url, "ws://127.0.0.1:9"]) == [b.url]
        with pytest.raises(RelayError, match="none of the named relays"):
            await pool.publish(note(), relays=["ws://127.0.0.1:9"])


async def test_a_query_that_nobody_answers_raises():
    async with ScriptedRelay(lambda *_: []) as silent, pooled(silent) as pool:
        with pytest.raises(UnreachableError, match="no relay answered"):
            await pool.query(NOTES, timeout=0.2)


async def test_waiting_for_relays_that_are_not_there_names_them():
    pool = RelayPool(["ws://127.0.0.1:9"], backoff=QUICK)
    pool.start()
    with pytest.raises(UnreachableError, match=r"ws://127\.0\.0\.1:9"):
        await pool.wait_open(0.3)
    await pool.close()


async def test_addresses_that_differ_in_their_spelling_alone_are_one_relay():
    async with ScriptedRelay() as relay:
        port = relay.url.rpartition(":")[2]
        spellings = [f"ws://localhost:{port}", f"WS://localhost:{port}/", f"ws://LOCALHOST:{port}"]
        pool = RelayPool(spellings[:2], backoff=QUICK)
        pool.start()
        assert await pool.add(spellings[2], timeout=10)
        assert pool.urls == [spellings[0]]
        assert await pool.publish(note(), relays=spellings) == [spellings[0]]
        assert relay.connections == 1
        await pool.remove(spellings[1])
        assert pool.urls == []
        await pool.close()


@pytest.mark.parametrize(
    "address",
    [
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:abc",
        "ws://[::1",
        "http://relay.example",
        "ws://",
        "ws://a b",
        "ws://a\nb",
    ],
)
async def test_an_address_that_is_none_is_a_relay_that_is_closed_and_no_fault_of_ours(address, caplog):
    async with ScriptedRelay() as good:
        pool = RelayPool([address, good.url], backoff=QUICK)
        pool.start()
        await pool.wait_open()
        async with asyncio.timeout(5):
            assert await pool.publish(note(), timeout=60) == [good.url]
            assert await pool.query(NOTES, timeout=60) == []
            with pytest.raises(RelayError, match="is not a relay address"):
                await pool.publish(note(), relays=[address], timeout=60)
        await asyncio.sleep(0.1)
        assert [status.state for status in pool.statuses] == ["closed", "open"]
        assert "relay address" in pool.statuses[0].error
        assert not any(record.exc_info for record in caplog.records)
        await pool.close()


async def test_a_pool_of_addresses_that_are_none_says_so_without_waiting():
    pool = RelayPool(["ws://127.0.0.1:99999"])
    pool.start()
    async with asyncio.timeout(5):
        with pytest.raises(UnreachableError, match=r"99999 \(the relay address has"):
            await pool.wait_open(60)
    await pool.close()


async def test_a_pool_without_relays_is_refused():
    with pytest.raises(UnreachableError, match="no relay is configured"):
        RelayPool([])


async def test_a_relay_that_is_added_serves_what_is_subscribed_already_until_it_is_removed():
    mine, theirs = note("mine"), note("theirs")
    async with (
        ScriptedRelay(serving(mine.to_dict())) as a,
        ScriptedRelay(serving(theirs.to_dict())) as b,
        pooled(a) as own,
    ):
        pool = own.extended()
        ended = pool.subscribe(lambda: NOTES)
        await ended.close()
        subscription = pool.subscribe(lambda: NOTES)
        assert (await asyncio.wait_for(anext(subscription), 10)).event == mine
        assert await pool.add(b.url, timeout=10)
        assert await pool.add(b.url, timeout=10)
        received = await asyncio.wait_for(anext(subscription), 10)
        assert (received.event, received.relay) == (theirs, b.url)
        assert (own.urls, pool.urls) == ([a.url], [a.url, b.url])
        await pool.remove(b.url)
        assert pool.urls == [a.url]
        await pool.close()
        # Only what was added is hung up on.
        assert [status.state for status in own.statuses] == ["open"]


async def test_a_relay_that_does_not_answer_is_not_open_in_time():
    async with ScriptedRelay(polite) as a, pooled(a) as own:
        pool = own.extended()
        assert not await pool.add("ws://127.0.0.1:9", timeout=0.2)
        await pool.remove("ws://127.0.0.1:9")
        await pool.close()
