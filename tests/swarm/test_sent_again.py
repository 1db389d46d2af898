"""A request that meets silence, and what goes over other relays: fake relays, real keys and encryption."""

import asyncio

import pytest

from pylon.swarm import flights, upkeep
from pylon.swarm.job import Answer
from pylon.swarm.wire import inbox, routes
from tests.swarm.fakes import FakeRelays
from tests.swarm.test_requests import customer, provider, received
from tests.waiting import until

A, B, C, D = (f"ws://{name}.invalid" for name in "abcd")


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(flights, "FIRST_LOOK_S", 0.1)
    monkeypatch.setattr(flights, "WORD_DUE_S", 0.1)
    monkeypatch.setattr(upkeep, "LOOK_S", 0.05)


@pytest.fixture
def relays() -> FakeRelays:
    return FakeRelays(takes_at=dict.fromkeys((A, B, C, D), 65_536))


async def test_what_meets_silence_goes_once_over_two_others_that_both_use_and_is_the_very_same(relays) -> None:
    one = provider(relays, A, B, C, D)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=3.0))
        await until(lambda: len(relays.sent_to) >= 2)
        await asyncio.sleep(0.5)
        first, others = relays.sent_to
        assert len(first) == 1 and len(others) == routes.MOST_OTHERS
        assert not set(first) & set(others)
        assert len({event.id for event in relays.requests()}) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_over_the_only_relay_that_both_use_nothing_is_sent_again_or_kept(relays) -> None:
    one = provider(relays, A)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=3.0))
        await received(one, 1)
        [flight] = swarm._parts.flights
        await until(lambda: flight.event is None)
        await asyncio.sleep(0.5)
        assert relays.sent_to == [[A]]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_what_was_answered_is_neither_sent_again_nor_kept(relays) -> None:
    provider(relays, A, B)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        [outcome] = await swarm.map(["one"])
        await asyncio.sleep(0.5)
    assert isinstance(outcome, Answer)
    assert len(relays.sent_to) == 1


async def test_no_more_than_so_many_are_sent_again_in_one_look(relays, monkeypatch) -> None:
    monkeypatch.setattr(inbox, "MOST_REPEATS", 3)
    # The one look is made here.
    monkeypatch.setattr(upkeep, "LOOK_S", 60.0)
    one = provider(relays, A, B)
    one.silent = True
    unheard = []
    async with customer(relays) as swarm:
        await swarm.caught_up()
        looking = swarm._parts.inbox
        swarm._parts.answers.unheard = unheard.append
        asking = asyncio.create_task(swarm.map([str(n) for n in range(8)], deadline_s=5.0))
        await received(one, 8)
        await asyncio.sleep(0.3)
        await looking.look()
        await until(lambda: len(relays.sent_to) >= 11)
        await asyncio.sleep(0.1)
        assert (len(relays.sent_to), len(unheard)) == (11, 5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_relay_is_blamed_only_for_what_another_brought(relays) -> None:
    one = provider(relays, A, B)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=5.0))
        await received(one, 1)
        [flight] = swarm._parts.flights
        over, other = flight.relay, ({A, B} - {flight.relay}).pop()
        for repeated, relay, lost in ((False, other, 0), (True, over, 0), (True, None, 0), (True, other, 1)):
            flight.repeated = repeated
            swarm._parts.relays.spoke(flight, relay)
            assert len(swarm._parts.relays._record._lost) == lost
        assert over in swarm._parts.relays._record._lost
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
