"""A request that meets silence, and what goes over other relays: fake relays, real keys and encryption."""

import asyncio
import time
from typing import Any

import pytest

from pylon.jobs.kinds import FEEDBACK, REQUEST_KINDS
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.swarm import flights, upkeep
from pylon.swarm.client import SwarmClient
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.wire import inbox, looks, routes
from tests.swarm.fakes import FakeRelays
from tests.swarm.test_requests import customer, provider, received
from tests.waiting import until

A, B, C, D = (f"ws://{name}.invalid" for name in "abcd")


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(flights, "FIRST_LOOK_S", 0.1)
    monkeypatch.setattr(flights, "WORD_DUE_S", 0.1)
    monkeypatch.setattr(upkeep, "LOOK_S", 0.05)
    # A look does not wait until no answer has come for a while.
    monkeypatch.setattr(looks, "LULL_S", 0.0)


@pytest.fixture
def relays() -> FakeRelays:
    return FakeRelays(takes_at=dict.fromkeys((A, B, C, D), 65_536))


def looks_for(relays: FakeRelays, request: str) -> int:
    """How often relays were asked for the answer to this request."""
    return sum(request in sought.tags.get("e", ()) for filters in relays.queries for sought in filters)


async def looked_for(relays: FakeRelays, request: str, times: int) -> None:
    """Relays are asked for it so many times more."""
    before = looks_for(relays, request)
    await until(lambda: looks_for(relays, request) >= before + times)


async def test_what_meets_silence_goes_once_over_two_others_that_both_use_and_is_the_very_same(relays) -> None:
    one = provider(relays, A, B, C, D)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=60.0))
        await until(lambda: len(relays.sent_to) >= 2)
        [request] = relays.requests()
        await looked_for(relays, request.id, 2)
        first, others = relays.sent_to
        assert len(first) == 1 and len(others) == routes.MOST_OTHERS
        assert not set(first) & set(others)
        assert relays.requests() == [request]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_over_the_only_relay_that_both_use_nothing_is_sent_again_or_kept(relays) -> None:
    one = provider(relays, A)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=60.0))
        await received(one, 1)
        [flight] = swarm._parts.flights
        await until(lambda: flight.event is None)
        await looked_for(relays, flight.request, 2)
        assert relays.sent_to == [[A]]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_what_its_provider_has_a_word_for_is_neither_sent_again_nor_kept(relays) -> None:
    one = provider(relays, A, B)
    one.acknowledge, one.delay_s = True, 60.0
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=60.0))
        await until(lambda: any(flight.heard for flight in swarm._parts.flights))
        [flight] = swarm._parts.flights
        assert flight.event is None
        await looked_for(relays, flight.request, 2)
        assert len(relays.sent_to) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_while_answers_stream_in_relays_are_not_asked_for_those_that_have_not_come(relays, monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", 600.0)
    monkeypatch.setattr(flights, "FIRST_LOOK_S", 0.001)
    monkeypatch.setattr(looks, "LULL_S", 600.0)
    monkeypatch.setattr(looks, "LOOK_LATEST_S", 600.0)
    one = provider(relays, A, B)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=60.0))
        await received(one, 1)
        [request] = relays.requests()
        one.silent = False
        await swarm.map(["two"])
        asked = []
        for _ in range(2):
            # By then the request is due for a look each time.
            await asyncio.sleep(0.02)
            await swarm._parts.inbox.look()
            asked.append(looks_for(relays, request.id))
        # The first look since the start is due whatever comes in.
        assert asked == [1, 1]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


class Narrow(FakeRelays):
    """Takes one publication after another, and none while it is shut."""

    def __init__(self, takes_at: dict[str, int]) -> None:
        super().__init__(takes_at=takes_at)
        self.open = asyncio.Event()
        self.open.set()
        self.published: list[Event] = []

    async def publish(self, event: Event, **options: object) -> list[str]:
        self.published.append(event)
        await self.open.wait()
        return await super().publish(event, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("meanwhile", ["", "answered", "taken back"])
async def test_what_is_over_before_its_turn_to_be_sent_again_is_not_sent_again(meanwhile: str) -> None:
    relays = Narrow(takes_at=dict.fromkeys((A, B), 65_536))
    one = provider(relays, A, B)
    one.silent = True
    settings = SwarmSettings(checks=None, publishing=1)
    async with SwarmClient(relays, SecretKey.generate(), settings=settings) as swarm:
        await swarm.caught_up()
        first = asyncio.create_task(swarm.map(["one"], deadline_s=60.0))
        await received(one, 1)
        [flight], [request] = swarm._parts.flights, relays.requests()
        # The next publication has the only place, and the repetition waits behind it.
        relays.open.clear()
        second = asyncio.create_task(swarm.map(["two"], deadline_s=60.0))
        await until(lambda: flight.repeated)
        if meanwhile == "answered":
            one.result(request, one.received[0], "at last")
        elif meanwhile == "taken back":
            first.cancel()
        if meanwhile:
            await asyncio.wait({first})
        relays.open.set()
        third = asyncio.create_task(swarm.map(["three"], deadline_s=60.0))
        await received(one, 3)
        asked = [event.id for event in relays.published if event.kind in REQUEST_KINDS]
        assert asked.count(request.id) == (1 if meanwhile else 2)
        for asking in (first, second, third):
            asking.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)


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
        asking = asyncio.create_task(swarm.map([str(n) for n in range(8)], deadline_s=60.0))
        await received(one, 8)
        # All of them are due for a look, and for a word.
        await asyncio.sleep(0.3)
        await looking.look()
        await until(lambda: len(relays.sent_to) >= 11)
        assert (len(relays.sent_to), len(unheard)) == (11, 5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_relay_is_blamed_only_for_what_another_brought(relays) -> None:
    one = provider(relays, A, B)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=60.0))
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


class Limited(FakeRelays):
    """Answers a query with the newest 500 events, as relays do, and pushes nothing that it has."""

    async def query(self, filters: tuple[Filter, ...], **options: Any) -> list[Event]:
        found = await super().query(filters, **options)
        return sorted(found, key=lambda event: -event.created_at)[:500]


@pytest.mark.parametrize("flooders", [1, 3])
async def test_a_provider_that_floods_its_own_request_hides_the_answer_to_no_other(flooders, monkeypatch) -> None:
    # The one look is made here.
    monkeypatch.setattr(upkeep, "LOOK_S", 60.0)
    relays = Limited(takes_at={A: 65_536})
    loud, one = SecretKey.generate(), provider(relays, A)
    one.silent = True
    unheard = []
    async with customer(relays) as swarm:
        await swarm.caught_up()
        swarm._parts.answers.unheard = unheard.append
        asking = asyncio.create_task(swarm.map([str(n) for n in range(5)], deadline_s=30.0))
        await received(one, 5)
        await asyncio.sleep(0.2)
        *others, quiet, mute = swarm._parts.flights
        ours, wall = swarm._parts.inbox._public, int(time.time())
        for n, flight in enumerate(others[:flooders]):
            flight.provider = loud.public
            for k in range(600):
                tags = (("e", flight.request), ("p", ours), ("status", "processing", str(k)))
                event = loud.sign(EventDraft(FEEDBACK, "", tags, wall + 10 + n))
                relays.stored[event.id] = event
        tags = (("e", quiet.request), ("p", ours), ("status", "processing"))
        event = one.secret.sign(EventDraft(FEEDBACK, "", tags, wall))
        relays.stored[event.id] = event
        await swarm._parts.inbox.look_for([*others[:flooders], quiet, mute])
        assert quiet.heard
        assert [flight.request for flight in unheard] == [mute.request]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
