"""Requests on their way out, to relays that take events of different sizes: fake relays, real keys and encryption."""

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from pylon.errors import ConnectionLostError, RelayError
from pylon.jobs.kinds import REQUEST_KINDS
from pylon.nostr.keys import SecretKey
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, JobSpec
from pylon.swarm.settings import DispatchSettings, SwarmSettings
from pylon.swarm.wire import publishing
from tests.swarm.fakes import FakeProvider, FakeRelays
from tests.waiting import until

SMALL, ANOTHER, LARGE = "ws://small.invalid", "ws://another.invalid", "ws://large.invalid"
LONG = "x" * 9_000


def provider(relays: FakeRelays, *urls: str) -> FakeProvider:
    one = FakeProvider(relays, now=time.time(), slots=8, seen=False)
    one.announcement = replace(one.announcement, relays=urls)
    one.announce()
    one.beat()
    return one


def customer(relays: FakeRelays, **dispatch: float) -> SwarmClient:
    rules = SwarmSettings(dispatch=DispatchSettings(patience_s=0.2, **dispatch), checks=None)  # type: ignore[arg-type]
    return SwarmClient(relays, SecretKey.generate(), settings=rules)


async def received(one: FakeProvider, count: int) -> None:
    await until(lambda: len(one.received) >= count)


@pytest.fixture
def relays() -> FakeRelays:
    return FakeRelays(takes_at={SMALL: 4_096, ANOTHER: 4_096, LARGE: 65_536})


async def test_what_the_drawn_relay_would_not_take_goes_over_another_that_both_sides_use(relays) -> None:
    provider(relays, SMALL, ANOTHER, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        short, long = await swarm.map(["short", LONG])
    assert isinstance(short, Answer) and isinstance(long, Answer)
    assert relays.sent_to == [[SMALL], [LARGE]]


async def test_it_counts_as_in_flight_over_the_relay_that_it_went_over(relays) -> None:
    one = provider(relays, SMALL, LARGE)
    one.silent = True
    async with customer(relays, relay_width=1) as swarm:
        await swarm.caught_up()
        asking = [asyncio.create_task(swarm.map([LONG], deadline_s=2.0))]
        await received(one, 1)
        # The small relay has room for it, and the large one none.
        asking.append(asyncio.create_task(swarm.map(["short"], deadline_s=2.0)))
        await received(one, 2)
        room = swarm._parts.deciders.dispatcher._room
        assert room._in_flight == {SMALL: 1, ANOTHER: 0, LARGE: 1}
        await asyncio.gather(*asking)
        assert not any(room._in_flight.values())
    assert relays.sent_to[:2] == [[LARGE], [SMALL]]


async def test_with_one_of_two_relays_gone_each_job_is_sent_once_and_over_the_other() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536})
    provider(relays, ANOTHER, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        relays.down = {ANOTHER}
        await until(lambda: swarm._parts.relays.unused == {ANOTHER})
        outcomes = await swarm.map(["one", "two", "three", "four"])
        assert [one.attempts for one in outcomes] == [1] * 4
        assert relays.sent_to == [[LARGE]] * 4
        relays.down = set()
        await until(lambda: not swarm._parts.relays.unused)
        await swarm.map(["five", "six"])
    assert sorted(relays.sent_to[4:]) == [[ANOTHER], [LARGE]]


async def test_a_request_that_was_to_go_over_a_relay_that_is_lost_goes_over_the_others_at_once() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536})
    provider(relays, ANOTHER, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        # Nobody has noticed yet.
        relays.down = {ANOTHER}
        swarm._parts.relays.look = lambda: None
        async with asyncio.timeout(10):
            outcomes = await swarm.map(["one", "two", "three", "four"])
    assert [one.attempts for one in outcomes] == [1] * 4
    lost = relays.sent_to.count([ANOTHER])
    # The very same event, for which nobody can charge twice.
    assert lost > 0 and relays.sent_to.count([ANOTHER, LARGE]) == lost
    assert len(relays.requests()) == 4


async def test_what_was_taken_back_before_its_relay_was_lost_goes_over_no_other() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536})
    on_its_way, lost = asyncio.Event(), asyncio.Event()
    give, sent = relays.publish, []

    async def publish(event, **options):
        if event.kind not in REQUEST_KINDS:
            return await give(event, **options)
        sent.append(options.get("relays"))
        on_its_way.set()
        await lost.wait()
        raise ConnectionLostError("gone")

    relays.publish = publish  # type: ignore[method-assign]
    provider(relays, ANOTHER, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=5.0))
        await asyncio.wait_for(on_its_way.wait(), 10)
        asking.cancel()
        await asyncio.wait({asking})
        # Whoever closes it waits for what is still on its way.
        lost.set()
    assert len(sent) == 1


async def test_a_request_whose_provider_has_no_other_relay_waits_for_the_one_that_is_lost() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536})
    provider(relays, ANOTHER)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        relays.down = {ANOTHER}
        swarm._parts.relays.look = lambda: None
        asking = asyncio.create_task(swarm.map(["one"], deadline_s=0.5))
        await until(lambda: len(relays.sent_to) == 2)
        assert relays.sent_to == [[ANOTHER], [ANOTHER]]
        [outcome] = await asking
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.DEADLINE


async def test_a_request_that_its_relay_is_too_fast_for_goes_over_another_and_later_ones_at_once() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536}, slow={ANOTHER})
    provider(relays, ANOTHER, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        drawn = 0
        async with asyncio.timeout(10):
            while not drawn:
                [outcome] = await swarm.map(["one"])
                assert isinstance(outcome, Answer) and outcome.attempts == 1
                drawn = relays.sent_to.count([ANOTHER])
        # The very same event, over the other alone.
        assert relays.sent_to[-2:] == [[ANOTHER], [LARGE]]
        assert swarm._parts.relays.unused == {ANOTHER}
        relays.sent_to.clear()
        await swarm.map(["two", "three", "four", "five"])
    assert relays.sent_to == [[LARGE]] * 4


async def test_a_request_whose_provider_has_no_other_relay_waits_for_the_one_that_is_too_fast() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536}, slow={ANOTHER})
    provider(relays, ANOTHER)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["one"]))
        await until(lambda: len(relays.sent_to) == 2)
        relays.slow.clear()
        async with asyncio.timeout(10):
            [outcome] = await asking
    assert isinstance(outcome, Answer) and outcome.attempts == 1
    assert relays.sent_to == [[ANOTHER], [ANOTHER]]


@pytest.mark.parametrize("how", ["mute", "shut"])
async def test_what_its_relay_refuses_or_leaves_without_an_ok_goes_over_the_others_and_later_ones_at_once(
    how: str, monkeypatch
) -> None:
    monkeypatch.setattr(publishing, "HEAD_START_S", 0.2)
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536, SMALL: 4_096}, **{how: {ANOTHER}})
    one = provider(relays, ANOTHER, LARGE, SMALL)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        drawn = 0
        async with asyncio.timeout(10):
            while not drawn:
                [outcome] = await swarm.map([LONG])
                assert isinstance(outcome, Answer) and outcome.attempts == 1
                drawn = relays.sent_to.count([ANOTHER])
        # The very same event, over those that take one so large; a silent relay may say OK yet.
        assert relays.sent_to[-2:] == [[ANOTHER], [ANOTHER, LARGE] if how == "mute" else [LARGE]]
        assert len(one.received) == len(relays.requests())
        relays.sent_to.clear()
        outcomes = await swarm.map([f"{LONG} {n}" for n in range(4)])
        assert [one.attempts for one in outcomes] == [1] * 4
        assert relays.sent_to == [[LARGE]] * 4


async def test_a_relay_is_avoided_only_from_the_second_event_in_a_row_that_it_calls_invalid() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536}, refusal="invalid: not this one")
    provider(relays, ANOTHER, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        avoided = []
        for takes in (False, True, False, False):
            relays.refuses = lambda _, takes=takes: not takes and relays.sent_to[-1] == [ANOTHER]
            relays.sent_to.clear()
            async with asyncio.timeout(10):
                while [ANOTHER] not in relays.sent_to:
                    [outcome] = await swarm.map(["one"])
                    assert isinstance(outcome, Answer) and outcome.attempts == 1
            avoided.append(ANOTHER in swarm._parts.relays.unused)
    assert avoided == [False, False, False, True]


async def test_a_request_whose_provider_has_no_other_relay_is_not_sent_twice_to_one_that_gives_no_ok(
    monkeypatch,
) -> None:
    monkeypatch.setattr(publishing, "HEAD_START_S", 0.05)
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536}, mute={ANOTHER})
    provider(relays, ANOTHER)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        [outcome] = await swarm.map(["one"], deadline_s=0.5)
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.DEADLINE
    assert relays.sent_to[0] == [ANOTHER] and len(relays.requests()) == 0
    assert relays.sent_to.count([ANOTHER]) == 1


async def test_what_its_provider_has_a_word_for_was_taken_whatever_its_relay_leaves_unsaid(monkeypatch) -> None:
    monkeypatch.setattr(publishing, "PATIENCE_S", 0.2)
    relays = FakeRelays(takes_at={LARGE: 65_536}, mute={LARGE}, passes_on=True)
    one = provider(relays, LARGE)
    one.acknowledge, one.delay_s = True, 0.6
    async with customer(relays) as swarm:
        await swarm.caught_up()
        [outcome] = await swarm.map(["one"])
    assert isinstance(outcome, Answer) and outcome.attempts == 1
    assert one.cancelled == []


async def test_over_a_relay_that_does_not_let_our_key_in_goes_only_what_has_no_other_way() -> None:
    relays = FakeRelays(takes_at={ANOTHER: 65_536, LARGE: 65_536}, not_let_in={ANOTHER})
    both = provider(relays, ANOTHER, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        await until(lambda: swarm._parts.relays.unused == {ANOTHER})
        await swarm.map(["one", "two"])
        assert relays.sent_to == [[LARGE]] * 2
        both.withdraw()
        provider(relays, ANOTHER)
        await swarm.map(["three"])
    assert relays.sent_to[2:] == [[ANOTHER]]


async def test_of_the_relays_that_take_it_the_emptiest_has_it() -> None:
    relays = FakeRelays(takes_at={SMALL: 4_096, ANOTHER: 65_536, LARGE: 65_536})
    one = provider(relays, SMALL, ANOTHER, LARGE)
    one.silent = True
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map([LONG] * 6, deadline_s=1.0))
        await received(one, 6)
        room = swarm._parts.deciders.dispatcher._room
        assert room._in_flight == {SMALL: 0, ANOTHER: 3, LARGE: 3}
        await asking


async def test_it_goes_to_somebody_who_is_reached_over_a_larger_relay(relays) -> None:
    near = [provider(relays, SMALL, ANOTHER) for _ in range(8)]
    far = provider(relays, LARGE)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        # More often than a provider may refuse in a row before it is left alone.
        outcomes = await swarm.map([LONG] * 8)
        standings = [swarm._parts.deciders.dispatcher._roster.standing_of(one.public) for one in near]
    assert {one.provider for one in outcomes if isinstance(one, Answer)} == {far.public}
    assert len(outcomes) == 8 and relays.sent_to == [[LARGE]] * 8
    # It says nothing of those who could not be sent it.
    assert not any(one.refusals or one.misses or one.silences for one in standings)


async def test_what_no_relay_of_anybody_takes_fails_with_both_sizes(relays) -> None:
    provider(relays, SMALL)
    provider(relays, ANOTHER)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        [outcome] = await swarm.map([LONG])
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.TOO_LARGE and outcome.code is None
    assert "relays take at most 4,096" in str(outcome)
    assert relays.sent_to == []


async def test_a_second_try_goes_to_nobody_whose_relays_would_not_take_it(relays) -> None:
    far = provider(relays, LARGE)
    far.silent = True
    async with customer(relays, ack_s=0.2) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map([JobSpec(LONG, timeout=1.5)]))
        await received(far, 1)
        near = provider(relays, SMALL)
        [outcome] = await asking
    assert isinstance(outcome, JobFailed)
    assert near.received == [] and far.received


@pytest.mark.parametrize("ended", [True, False])
async def test_a_refusal_of_what_was_taken_back_is_no_warning(ended: bool, caplog, monkeypatch) -> None:
    """A fake relay that takes its time, as one does that was asked to delete what is still on its way."""
    monkeypatch.setattr(logging.getLogger("pylon"), "propagate", True)
    # Another test may have set how much of it is told.
    caplog.set_level(logging.DEBUG, logger="pylon")
    relays = FakeRelays(refusal="blocked: its author asked to have this event deleted")
    on_its_way, refused = asyncio.Event(), asyncio.Event()
    give = relays.publish

    async def publish(event, **options):
        if event.kind in REQUEST_KINDS:
            on_its_way.set()
            await refused.wait()
            raise RelayError(relays.refusal)
        return await give(event, **options)

    relays.publish = publish  # type: ignore[method-assign]
    provider(relays, *relays.urls)
    async with customer(relays) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map(["short"], deadline_s=5.0))
        await asyncio.wait_for(on_its_way.wait(), 10)
        if ended:
            asking.cancel()
            await asyncio.wait({asking})
        refused.set()
        await until(lambda: any(record.message == "request not accepted" for record in caplog.records))
        asking.cancel()
        await asyncio.wait({asking})
    levels = {record.levelno for record in caplog.records if record.message == "request not accepted"}
    assert levels == ({logging.DEBUG} if ended else {logging.WARNING})
