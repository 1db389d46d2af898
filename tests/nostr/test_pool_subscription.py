"""An event that was dropped while it waited for room in a subscription's queue is not taken for one that is here."""

import asyncio

import pytest

from pylon.errors import RelayError
from pylon.nostr import pool_subscription as module
from pylon.nostr.filter import Filter
from pylon.nostr.pool import RelayPool
from pylon.nostr.pool_subscription import PoolSubscription
from tests.nostr.scripted import ScriptedRelay
from tests.nostr.test_connection import QUICK, note
from tests.waiting import until


async def test_it_comes_from_another_relay_when_the_first_is_let_go(monkeypatch):
    monkeypatch.setattr(module, "QUEUE_EVENTS", 1)
    one, two, three = note("1"), note("2"), note("3")

    def full(relay, socket, message):
        if message[0] == "REQ":
            return [["EVENT", message[1], event.to_dict()] for event in (one, two)]
        return []

    async with ScriptedRelay(full) as added, ScriptedRelay() as own:
        pool = RelayPool([own.url], backoff=QUICK)
        pool.start()
        await pool.wait_open()
        subscription = pool.subscribe(lambda: (Filter(kinds=frozenset({1})),))
        await pool.add(added.url, timeout=5)
        await until(lambda: subscription._is_full)
        await asyncio.sleep(0.1)
        await pool.remove(added.url)
        name = own.of("REQ")[0][1]
        for event in (two, three):
            await own.say(["EVENT", name, event.to_dict()])
        async with asyncio.timeout(5):
            got = [(await anext(subscription)).event.content for _ in range(3)]
        await pool.close()
        assert got == ["1", "2", "3"]


async def test_it_may_be_offered_again(monkeypatch):
    monkeypatch.setattr(module, "QUEUE_EVENTS", 1)
    subscription, two = PoolSubscription("x"), note("2")
    await subscription.offer(note("1"), "")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(subscription.offer(two, ""), 0.05)
    await anext(subscription)
    assert await subscription.offer(two, "")


async def test_what_was_read_makes_room_for_as_many_bytes(monkeypatch):
    monkeypatch.setattr(module, "QUEUE_BYTES", 1)
    subscription = PoolSubscription("x")
    for n in range(3):
        async with asyncio.timeout(1):
            assert await subscription.offer(note(str(n)), "")
        assert subscription._is_full
        assert [received.event.content for received in await subscription.next_batch(9)] == [str(n)]


async def test_of_two_copies_that_wait_one_comes(monkeypatch):
    monkeypatch.setattr(module, "QUEUE_EVENTS", 1)
    subscription, two = PoolSubscription("x"), note("2")
    await subscription.offer(note("1"), "")
    offers = asyncio.gather(subscription.offer(two, "a"), subscription.offer(two, "b"))
    await asyncio.sleep(0)
    assert [(await anext(subscription)).event.content for _ in range(2)] == ["1", "2"]
    assert sorted(await offers) == [False, True]


async def test_whoever_publishes_to_two_relays_hears_that_the_pool_was_closed():
    async with ScriptedRelay(lambda *_: []) as one, ScriptedRelay(lambda *_: []) as two:
        pool = RelayPool([one.url, two.url], backoff=QUICK)
        pool.start()
        await pool.wait_open()
        publishing = asyncio.create_task(pool.publish(note()))
        for relay in (one, two):
            await relay.until(lambda relay=relay: relay.of("EVENT"))
        await pool.close()
        with pytest.raises(RelayError, match="closed"):
            await publishing
