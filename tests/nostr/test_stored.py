"""A relay that answers with more than was asked for, or with forgeries, neither fills memory nor is believed."""

import asyncio
from dataclasses import replace

import pytest

from pylon.errors import MalformedError, RelayError, SignatureError, UnreachableError
from pylon.nostr import pool_subscription
from pylon.nostr.client import stored, tolerance
from pylon.nostr.client.backoff import Backoff
from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.client.stored import MemoryBudget, StoredAnswer, weight
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.pool_subscription import PoolSubscription
from tests.nostr.scripted import ScriptedRelay
from tests.nostr.test_connection import KEY, connected
from tests.nostr.test_pool import NOTES, note, pooled, serving


def endless(*events: Event):
    """To each query these events, again and again, and never an end."""

    async def spam(socket, name):
        while True:
            for event in events:
                await socket.send(f'["EVENT","{name}",{event.to_json().decode()}]')

    spamming = set()

    def answer(relay, socket, message):
        if message[0] == "REQ":
            task = asyncio.create_task(spam(socket, message[1]))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            spamming.add(task)
        return []

    return answer


def begun(*filters: Filter, budget: MemoryBudget | None = None) -> StoredAnswer:
    answer = StoredAnswer(budget or MemoryBudget(), {})
    answer.begin_page(filters)
    return answer


@pytest.mark.parametrize(
    "wrong", [replace(note(), content="forged" * 10_000), KEY.sign(EventDraft(2, "asked for by nobody" * 3_000))]
)
async def test_a_relay_that_floods_a_query_is_given_up_at_once_and_then_left_alone_for_longer_each_time(
    wrong, monkeypatch
):
    monkeypatch.setattr(tolerance, "BURST", 100)
    async with ScriptedRelay(endless(wrong)) as hostile, ScriptedRelay(serving(note().to_dict())) as good:
        async with pooled(hostile, good) as pool, asyncio.timeout(5):
            assert [event.content for event in await pool.query(NOTES, timeout=60)] == ["hello"]
        attempts: list[int] = []

        class Recorded(Backoff):
            def delay(self, attempt, rng):
                attempts.append(attempt)
                return 0.01

        connection = RelayConnection(hostile.url, backoff=Recorded())
        connection.start()
        for _ in range(3):
            with pytest.raises(RelayError, match="not asked for"):
                await connection.query(NOTES)
        await hostile.until(lambda: len(attempts) == 3)
        await connection.close()
        assert attempts == [1, 2, 3]


async def test_the_signature_of_what_a_subscription_did_not_ask_for_is_not_verified(monkeypatch):
    verified = []
    monkeypatch.setattr(pool_subscription, "verify", verified.append)
    unasked = [KEY.sign(EventDraft(2, "of another kind")), KEY.sign(EventDraft(1, "to another", (("p", "ab" * 32),)))]
    ours = KEY.sign(EventDraft(1, "to us", (("p", "cd" * 32),)))
    wanted = Filter(kinds=frozenset({1}), tags={"p": frozenset({"cd" * 32})})
    async with ScriptedRelay(serving(*(each.to_dict() for each in (*unasked, ours)))) as relay, pooled(relay) as pool:
        subscription = pool.subscribe(lambda: (wanted,))
        async with asyncio.timeout(5):
            assert (await anext(subscription)).event == ours
        await subscription.close()
    assert verified == [ours]


@pytest.mark.parametrize("wrong", [replace(note(), content="forged"), KEY.sign(EventDraft(2, "not asked for"))])
async def test_a_relay_that_floods_a_subscription_with_what_is_wrong_is_hung_up_on(wrong):
    async with ScriptedRelay(endless(wrong)) as hostile, pooled(hostile) as pool:
        subscription = pool.subscribe(lambda: NOTES)
        await hostile.until(lambda: hostile.connections > 1)
        await subscription.close()


async def test_a_relay_that_does_not_verify_is_kept_when_strangers_fill_it_with_forgeries():
    forged = [replace(note(), content=f"forged {number}").to_dict() for number in range(500)]
    true = note()
    async with ScriptedRelay(serving(*forged, true.to_dict())) as lazy, pooled(lazy) as pool:
        subscriptions = [pool.subscribe(lambda: NOTES) for _ in range(3)]
        for subscription in subscriptions:
            async with asyncio.timeout(10):
                assert (await anext(subscription)).event == true
        assert lazy.connections == 1
        for subscription in subscriptions:
            await subscription.close()


async def test_some_forgeries_are_no_flood(monkeypatch):
    monkeypatch.setattr(tolerance, "BURST", 3)
    forged = replace(note(), content="forged").to_dict()
    true = note()
    async with (
        ScriptedRelay(serving(forged, forged, true.to_dict(), forged)) as relay,
        connected(relay) as connection,
    ):
        assert await connection.query(NOTES) == [true]
        assert relay.connections == 1


async def test_of_an_endless_answer_so_much_is_kept_as_there_is_room_for():
    events = [note(f"{number} {'x' * 1_000}") for number in range(20)]
    async with ScriptedRelay(endless(*events)) as relay, connected(relay) as connection, asyncio.timeout(5):
        connection._subscriptions._query_memory.free = free = 10 * weight(events[0])
        for _ in range(2):
            # What was kept for one query is room for the next.
            assert len(await connection.query(NOTES, timeout=60)) in (9, 10)
            assert connection._subscriptions._query_memory.free == free


async def test_copies_without_end_end_a_query(monkeypatch):
    monkeypatch.setattr(stored, "MAX_EVENTS", 50)
    event = note()
    async with ScriptedRelay(endless(event)) as relay, connected(relay) as connection, asyncio.timeout(5):
        assert await connection.query(NOTES, timeout=60) == [event]


async def test_a_query_that_is_answered_by_nobody_but_a_flood_says_so():
    async with ScriptedRelay(endless(replace(note(), content="forged"))) as hostile, pooled(hostile) as pool:
        with pytest.raises(UnreachableError, match="forged"):
            await pool.query(NOTES, timeout=60)


def test_what_a_filter_bounds_is_not_exceeded():
    one, two, three = (note(text) for text in "123")
    answer = begun(Filter(kinds=frozenset({1}), limit=2))
    # A relay that begins anew sends copies.
    assert [answer.take(event) for event in (one, one, two, one, three)] == [True, True, True, True, False]
    assert list(answer.events.values()) == [one, two]
    both = begun(Filter(kinds=frozenset({1}), limit=2), *NOTES)
    assert [both.take(event) for event in (one, two, three)] == [True] * 3


def test_an_event_counts_when_it_is_signed_and_was_asked_for():
    answer, true = begun(*NOTES), note()
    with pytest.raises(SignatureError):
        answer.take(replace(true, content="forged"))
    with pytest.raises(MalformedError):
        answer.take(KEY.sign(EventDraft(2)))
    assert answer.take(true)
    assert answer.take(true)
    with pytest.raises(SignatureError):
        answer.take(replace(true, content="forged"))
    assert list(answer.events.values()) == list(answer.page.values()) == [true]


def test_the_answers_of_one_connection_share_its_room():
    event = note()
    budget = MemoryBudget(weight(event))
    first, second = begun(*NOTES, budget=budget), begun(*NOTES, budget=budget)
    assert first.take(event)
    assert not second.take(event)
    assert second.cut
    first.let_go()
    assert second.take(event)


def test_the_weight_of_an_event_is_that_of_all_its_strings():
    assert weight(KEY.sign(EventDraft(1, "x" * 1_000_000))) > 1_000_000
    # Four bytes of JSON each, and a Python string.
    assert weight(KEY.sign(EventDraft(1, tags=(("a", *("xy" for _ in range(10_000))),)))) > 500_000


async def test_a_subscription_holds_so_many_bytes_for_a_reader_that_is_behind(monkeypatch):
    monkeypatch.setattr("pylon.nostr.pool_subscription.QUEUE_BYTES", 2 * weight(note("x" * 1_000)))
    subscription = PoolSubscription("x")
    for number in (1, 2):
        assert await subscription.offer(note(f"{number}" * 1_000), "")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subscription.offer(note("3" * 1_000), ""), 0.05)
    await subscription.next_batch(2)
    assert await subscription.offer(note("3" * 1_000), "")
    assert (await anext(subscription)).event.content == "3" * 1_000
