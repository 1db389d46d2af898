"""What one thing asked came to, told also when whoever asked had gone by then."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from pylon.clock import Clock, SystemClock
from pylon.jobs.codes import ErrorCode
from pylon.money.accounts import orders as order_store
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.swarm import upkeep
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.budget import RunBudget
from pylon.swarm.dispatch.in_flight import LAPSE_S
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.schema import SWARM
from pylon.swarm.settings import DispatchSettings, SwarmSettings
from pylon.swarm.wire import requests
from tests.opened import opened_database
from tests.swarm.fakes import FakeProvider, FakeRelays
from tests.swarm.test_run_cost import EACH, PRICE, Till
from tests.waiting import until

QUESTION = JobSpec("a question", max_tokens=8)


class Ahead(SystemClock):
    """So many seconds later than it is."""

    by_s = 0.0

    def wall(self) -> float:
        return time.time() + self.by_s

    def monotonic(self) -> float:
        return time.monotonic() + self.by_s


def client(relays: FakeRelays, till: Till, *, publishing: int = 250, clock: Clock | None = None) -> SwarmClient:
    settings = SwarmSettings(bid=EACH, checks=None, publishing=publishing)
    return SwarmClient(relays, SecretKey.generate(), settings=settings, purse=till, clock=clock)


async def cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_it_can_come_to_all_of_it_until_nobody_is_asked_any_more_and_then_to_what_may_be_charged() -> None:
    reservation, budget = CallReservation(100), RunBudget(90)
    assert (reservation.charged_msat, reservation.most_msat, reservation.decided) == (0, 100, False)
    reservation.begin(budget, before=10)
    budget.spent, budget.reserved = 20, 30
    assert (reservation.charged_msat, reservation.most_msat, reservation.over) == (30, 100, False)
    reservation.end()
    # Its run ends a moment later.
    assert (reservation.most_msat, reservation.over, reservation.decided) == (100, False, False)
    budget.reserved, budget.open, budget.over = 0, 30, True
    assert (reservation.most_msat, reservation.over, reservation.decided) == (60, True, False)
    budget.open = 0
    assert (reservation.charged_msat, reservation.most_msat, reservation.decided) == (30, 30, True)


def test_what_was_never_asked_cost_nothing() -> None:
    reservation = CallReservation(100)
    reservation.end()
    assert (reservation.charged_msat, reservation.most_msat, reservation.decided) == (0, 0, True)


def test_nothing_is_given_back_while_receipts_are_still_asked_for() -> None:
    assert LAPSE_S > order_store.KEEP_S


async def test_a_cancelled_question_is_settled_by_the_receipt_that_comes_after_it() -> None:
    relays, till, reservation = FakeRelays(), Till(), CallReservation(1_000)
    provider = FakeProvider(relays, now=time.time(), delay_s=0.3, price=PRICE, network="play")
    async with client(relays, till) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: provider.received)
        await cancel(asking)
        assert (reservation.charged_msat, reservation.most_msat, reservation.decided) == (0, int(EACH), False)
        await until(lambda: reservation.decided)
    assert (reservation.charged_msat, reservation.most_msat) == (int(EACH), int(EACH))
    assert len(till.receipts) == 1


async def test_a_question_that_is_answered_is_decided_at_once() -> None:
    relays, reservation = FakeRelays(), CallReservation(1_000)
    FakeProvider(relays, now=time.time(), price=PRICE, network="play")
    async with client(relays, Till()) as swarm:
        await swarm.caught_up()
        single = await swarm.single(QUESTION, reservation=reservation)
    assert isinstance(single.outcome, Answer)
    assert (single.msat, single.most_msat) == (int(EACH), int(EACH))
    assert (reservation.charged_msat, reservation.decided) == (int(EACH), True)


async def test_whoever_is_silent_may_charge_for_what_was_cancelled_and_it_stays_open() -> None:
    relays, reservation = FakeRelays(), CallReservation(1_000)
    provider = FakeProvider(relays, now=time.time(), silent=True, price=PRICE, network="play")
    async with client(relays, Till()) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map([QUESTION] * 2, reservation=reservation))
        await until(lambda: provider.received)
        await cancel(asking)
        assert (reservation.charged_msat, reservation.over, reservation.decided) == (0, True, False)
        assert reservation.most_msat == len(provider.received) * int(EACH)


async def test_what_its_provider_says_is_not_done_costs_nothing_and_comes_back_at_once() -> None:
    relays, reservation = FakeRelays(), CallReservation(1_000)
    provider = FakeProvider(relays, now=time.time(), slots=2, silent=True, lets_go=True, price=PRICE, network="play")
    async with client(relays, Till()) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map([QUESTION] * 2, reservation=reservation))
        await until(lambda: len(provider.received) == 2)
        await cancel(asking)
        await until(lambda: reservation.decided)
    assert (reservation.charged_msat, reservation.most_msat) == (0, 0)


@pytest.mark.parametrize("code", [ErrorCode.CANCELLED, ErrorCode.EXPIRED, ErrorCode.ENGINE_FAILED])
async def test_an_attempt_that_was_given_up_and_is_not_done_gives_its_price_back_while_the_run_goes_on(code) -> None:
    relays, reservation = FakeRelays(), CallReservation(2 * int(EACH))
    slow = FakeProvider(relays, now=time.time(), silent=True, price=PRICE, network="play")
    settings = SwarmSettings(bid=EACH, checks=None, dispatch=DispatchSettings(ack_s=0.2))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings, purse=Till()) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: slow.received)
        FakeProvider(relays, now=time.time(), silent=True, price=PRICE, network="play")
        await until(lambda: slow.cancelled)
        budget = swarm._parts.deciders.dispatcher.budget(1)
        assert budget is not None and budget.open == int(EACH)
        slow.refused(slow.received[0], code)
        await until(lambda: not budget.open)
        assert budget.spent == 0
        await cancel(asking)


async def test_a_job_that_an_earlier_process_took_back_is_asked_again_of_whoever_let_it_go(tmp_path: Path) -> None:
    relays, secret, now = FakeRelays(), SecretKey.generate(), time.time()
    provider = FakeProvider(relays, now=now, silent=True, lets_go=True, price=PRICE, network="play")
    settings = SwarmSettings(bid=EACH, checks=None)
    async with AsyncExitStack() as stack:
        database, group = await stack.enter_async_context(opened_database(tmp_path / "pylon.db", SWARM))

        async def mapped(*, resume: bool) -> list[object]:
            journal = await RunJournal.open(database, group, SystemClock(), [QUESTION], resume=resume)
            async with SwarmClient(relays, secret, settings=settings, purse=Till()) as swarm:
                await swarm.caught_up()
                return list(await swarm.map([QUESTION], journal=journal, budget_msat=100))

        first = asyncio.create_task(mapped(resume=False))
        await until(lambda: provider.received)
        await cancel(first)
        await until(lambda: provider.cancelled)
        provider.silent = False
        [outcome] = await asyncio.wait_for(mapped(resume=True), 30.0)
    assert isinstance(outcome, Answer) and len(provider.received) == 2


async def test_a_request_that_was_not_made_when_it_was_cancelled_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults: list[str] = []
    monkeypatch.setattr(requests.logger, "error", lambda said, **_: faults.append(said))

    class Held(FakeRelays):
        """Takes requests when it is let."""

        def __init__(self) -> None:
            super().__init__()
            self.let = asyncio.Event()

        async def publish(self, event: Event, **options: object) -> list[str]:
            await self.let.wait()
            return await super().publish(event, **options)  # type: ignore[arg-type]

    relays, first, second = Held(), CallReservation(1_000), CallReservation(1_000)
    FakeProvider(relays, now=time.time(), slots=4, price=PRICE, network="play")
    async with client(relays, Till(), publishing=1) as swarm:
        await swarm.caught_up()
        going = asyncio.create_task(swarm.single(QUESTION, reservation=first))
        await until(lambda: swarm._parts.flights)
        waiting = asyncio.create_task(swarm.single(QUESTION, reservation=second))
        await until(lambda: swarm._parts.deciders.dispatcher.in_flight == 2)
        await cancel(waiting)
        assert (second.most_msat, second.decided) == (0, True)
        await cancel(going)
        # A relay may have taken the other one.
        assert (first.most_msat, first.decided) == (int(EACH), False)
        relays.let.set()
    # Whoever closes a client waits for what is still on its way. It was not even tried to make the other one.
    assert len(relays.requests()) == 1 and not faults


async def test_what_nobody_charged_in_time_comes_back_and_a_receipt_that_comes_later_is_not_booked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "IDLE_TICK_S", 0.05)
    relays, till, reservation, clock = FakeRelays(), Till(), CallReservation(1_000), Ahead()
    provider = FakeProvider(relays, now=time.time(), silent=True, price=PRICE, network="play")
    async with client(relays, till, clock=clock) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: provider.received)
        await cancel(asking)
        clock.by_s = LAPSE_S - 60.0 + QUESTION.timeout
        await asyncio.sleep(0.3)
        assert (reservation.most_msat, reservation.decided) == (int(EACH), False)
        clock.by_s += 120.0
        await until(lambda: reservation.decided)
        [request], [received] = relays.requests(), provider.received
        provider.result(request, received, "late")
        await asyncio.sleep(0.3)
    assert (reservation.charged_msat, till.receipts) == (0, {})


async def test_a_receipt_that_relays_were_asked_for_settles_too() -> None:
    relays, reservation = FakeRelays(), CallReservation(1_000)
    provider = FakeProvider(relays, now=time.time(), silent=True, price=PRICE, network="play")
    async with client(relays, Till()) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: provider.received)
        await cancel(asking)
        answers = swarm._parts.answers
        answers.booked("0" * 64, EACH)
        assert not reservation.decided
        answers.booked(provider.received[0].id, EACH)
        assert (reservation.charged_msat, reservation.decided) == (int(EACH), True)
