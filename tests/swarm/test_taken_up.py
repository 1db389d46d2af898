"""A run that is taken up counts what the process before it had out, and may be charged for."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pylon.errors import UnreachableError
from pylon.jobs.result import JobResult
from pylon.money.accounts.usage import Bounds
from pylon.money.msat import Msat
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm import run_driver, upkeep
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.in_flight import LAPSE_S
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, JobSpec, Outcome
from pylon.swarm.providers.listing import Listing
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.schema import SWARM
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.spending.purse import Bill, Offer, Owed
from tests.opened import opened_database
from tests.swarm.fakes import FakeProvider, FakeRelays
from tests.swarm.test_reservation import Ahead, cancel
from tests.swarm.test_run_cost import EACH, PRICE, Till
from tests.waiting import until

COST = int(EACH)
JOBS = 4
SPECS = [JobSpec(f"question {n}", max_tokens=8, timeout=60) for n in range(JOBS)]
EXPIRED_S = 70.0


@dataclass
class Asking(Till):
    """Knows what was ordered of whom, for those who ask for late receipts."""

    ordered_of: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def unanswered(self, *, at_start: bool) -> list[Owed]:
        if not at_start:
            return []
        return [
            Owed(request, kind, Offer(Listing(provider, price=PRICE), Bounds(10, 8), EACH, EACH))
            for request, (kind, provider) in self.ordered_of.items()
            if request not in self.receipts
        ]


class Connecting(FakeRelays):
    """Stored events are to be had from then on."""

    open_from = 0.0

    async def query(self, filters: tuple[Filter, ...], **options: object) -> list[Event]:
        if time.monotonic() < self.open_from:
            raise UnreachableError("no relay is connected")
        return await super().query(filters, **options)  # type: ignore[arg-type]


class Home:
    """A customer whose process may die, and what survives it."""

    def __init__(self, database: Database, group: GroupCommit) -> None:
        self.database, self.group = database, group
        self.relays, self.till, self.clock, self.secret = Connecting(), Asking(), Ahead(), SecretKey.generate()

    def provider(self, *, silent: bool = False) -> FakeProvider:
        now = time.time() + self.clock.by_s
        return FakeProvider(self.relays, now=now, slots=20, silent=silent, price=PRICE, network="play")

    async def process(self, stack: AsyncExitStack) -> SwarmClient:
        settings = SwarmSettings(bid=EACH, checks=None)
        swarm = SwarmClient(self.relays, self.secret, settings=settings, purse=self.till, clock=self.clock)
        await stack.enter_async_context(swarm)
        await swarm.caught_up()
        return swarm

    async def mapped(self, swarm: SwarmClient, reservation: CallReservation, *, resume: bool = True) -> list[Outcome]:
        journal = await RunJournal.open(self.database, self.group, self.clock, SPECS, resume=resume)
        assert journal.taken_up is resume
        return await asyncio.wait_for(swarm.map(SPECS, journal=journal, reservation=reservation), 30.0)

    async def dead_with_all_of_it_out(self) -> FakeProvider:
        """Whom a process asked everything that had died when it was answered."""
        silent = self.provider(silent=True)
        async with AsyncExitStack() as stack:
            swarm = await self.process(stack)
            asking = asyncio.create_task(self.mapped(swarm, CallReservation(JOBS * COST), resume=False))
            await until(lambda: len(silent.received) == JOBS)
            swarm._upkeep._tasks.cancel()
            await cancel(asking)
        kinds = {event.id: event.kind for event in self.relays.requests()}
        self.till.ordered_of = {one.id: (kinds[one.id], silent.public) for one in silent.received}
        return silent

    def answer(self, provider: FakeProvider) -> None:
        events = {event.id: event for event in self.relays.requests()}
        for request in provider.received:
            provider.result(events[request.id], request, "done meanwhile")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with AsyncExitStack() as stack:
        database, group = await stack.enter_async_context(opened_database(tmp_path / "pylon.db", SWARM))
        yield Home(database, group)


def unpaid_for(outcomes: list[Outcome]) -> int:
    return sum(isinstance(one, JobFailed) and one.reason is Failure.BUDGET for one in outcomes)


@pytest.mark.parametrize("connected_after_s", [0.0, 1.0])
async def test_what_was_charged_while_nobody_was_there_is_known_before_anything_more_is_asked(
    home: Home, connected_after_s: float, monkeypatch
) -> None:
    # Before receipts are asked for as seldom as they are later.
    monkeypatch.setattr(run_driver, "RECEIPTS_S", 4.0)
    dead = await home.dead_with_all_of_it_out()
    home.answer(dead)
    dead.withdraw()
    home.clock.by_s = EXPIRED_S
    home.relays.open_from = time.monotonic() + connected_after_s
    live, reservation = home.provider(), CallReservation((JOBS + 1) * COST)
    async with AsyncExitStack() as stack:
        outcomes = await home.mapped(await home.process(stack), reservation)
    assert (len(live.received), unpaid_for(outcomes)) == (1, JOBS - 1)
    assert (reservation.charged_msat, reservation.decided) == ((JOBS + 1) * COST, True)
    assert sum(home.till.receipts.values()) == (JOBS + 1) * COST


async def test_what_is_not_known_in_time_is_set_aside_until_its_receipt_comes(home: Home, monkeypatch) -> None:
    monkeypatch.setattr(run_driver, "RECEIPTS_S", 0.1)
    dead = await home.dead_with_all_of_it_out()
    dead.withdraw()
    home.clock.by_s = EXPIRED_S
    home.relays.open_from = time.monotonic() + 600.0
    live, reservation = home.provider(), CallReservation((JOBS + 1) * COST)
    async with AsyncExitStack() as stack:
        outcomes = await home.mapped(await home.process(stack), reservation)
        assert (len(live.received), unpaid_for(outcomes)) == (1, JOBS - 1)
        assert (reservation.charged_msat, reservation.decided) == (COST, False)
        assert reservation.most_msat == (JOBS + 1) * COST
        home.answer(dead)
        await until(lambda: reservation.decided)
    assert reservation.charged_msat == sum(home.till.receipts.values()) == (JOBS + 1) * COST


async def test_a_client_that_is_closed_while_receipts_are_waited_for_cancels_the_run_and_sets_nothing_aside(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_driver, "RECEIPTS_S", 2.0)
    await home.dead_with_all_of_it_out()
    home.relays.open_from = time.monotonic() + 600.0
    reservation = CallReservation(2 * JOBS * COST)
    async with AsyncExitStack() as stack:
        swarm = await home.process(stack)
        asking = asyncio.create_task(home.mapped(swarm, reservation))
        await until(lambda: bool(swarm._parts.runs.by_number))
        await asyncio.sleep(0.2)
        await swarm.close()
        outcomes = await asking
    assert [one.reason for one in outcomes if isinstance(one, JobFailed)] == [Failure.CANCELLED] * JOBS
    assert (reservation.charged_msat, reservation.decided) == (0, True)
    assert not swarm._parts.deciders.dispatcher._in_flight.budgets.by_run


async def test_what_an_earlier_process_had_out_comes_back_when_nobody_charges_for_it_in_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "IDLE_TICK_S", 0.05)
    dead = await home.dead_with_all_of_it_out()
    dead.withdraw()
    home.clock.by_s = EXPIRED_S
    home.provider()
    reservation = CallReservation(2 * JOBS * COST)
    async with AsyncExitStack() as stack:
        outcomes = await home.mapped(await home.process(stack), reservation)
        assert all(isinstance(one, Answer) for one in outcomes)
        assert (reservation.most_msat, reservation.decided) == (2 * JOBS * COST, False)
        home.clock.by_s = LAPSE_S + 30.0
        await asyncio.sleep(0.3)
        assert not reservation.decided
        home.clock.by_s = LAPSE_S + EXPIRED_S
        await until(lambda: reservation.decided)
        home.answer(dead)
        await asyncio.sleep(0.2)
    assert reservation.charged_msat == sum(home.till.receipts.values()) == JOBS * COST
    # Nor does it count for who takes it up after that: orders are forgotten by then.
    home.till.ordered_of.clear()
    again = CallReservation(2 * JOBS * COST)
    async with AsyncExitStack() as stack:
        await home.mapped(await home.process(stack), again)
    assert (again.charged_msat, again.decided) == (JOBS * COST, True)


async def test_an_answer_whose_receipt_was_booked_before_it_was_found_is_counted_once(home: Home) -> None:
    dead = await home.dead_with_all_of_it_out()
    home.answer(dead)
    reservation = CallReservation(JOBS * COST)
    async with AsyncExitStack() as stack:
        outcomes = await home.mapped(await home.process(stack), reservation)
    assert [one.text for one in outcomes if isinstance(one, Answer)] == ["done meanwhile"] * JOBS
    assert (reservation.charged_msat, reservation.decided) == (JOBS * COST, True)


@pytest.mark.parametrize("expired_s", [0.0, EXPIRED_S])
async def test_a_run_that_its_own_process_takes_up_counts_it_for_both_calls(home: Home, expired_s: float) -> None:
    silent = home.provider(silent=True)
    first, second = CallReservation(JOBS * COST), CallReservation(JOBS * COST)
    async with AsyncExitStack() as stack:
        swarm = await home.process(stack)
        asking = asyncio.create_task(home.mapped(swarm, first, resume=False))
        await until(lambda: len(silent.received) == JOBS)
        await cancel(asking)
        home.clock.by_s = expired_s
        again = asyncio.create_task(home.mapped(swarm, second))
        await until(lambda: second.most_msat == JOBS * COST)
        home.answer(silent)
        await until(lambda: first.decided and second.decided)
        await again
    assert first.charged_msat == second.charged_msat == JOBS * COST
    assert len(silent.received) == JOBS
    assert not swarm._parts.flights._late


async def interrupted(home: Home, swarm: SwarmClient, silent: FakeProvider, reservation: CallReservation) -> None:
    """A call that asks all of it, and is ended: its process goes on, and takes back what was out."""
    asking = asyncio.create_task(home.mapped(swarm, reservation, resume=False))
    await until(lambda: len(silent.received) == JOBS)
    await cancel(asking)
    await until(lambda: len(silent.cancelled) == JOBS)


async def test_what_was_taken_back_goes_on_with_somebody_else_while_its_money_stays_set_aside(home: Home) -> None:
    silent = home.provider(silent=True)
    first, second = CallReservation(JOBS * COST), CallReservation(2 * JOBS * COST)
    async with AsyncExitStack() as stack:
        swarm = await home.process(stack)
        await interrupted(home, swarm, silent, first)
        silent.withdraw()
        live = home.provider()
        outcomes = await home.mapped(swarm, second)
        assert {one.provider for one in outcomes if isinstance(one, Answer)} == {live.public}
        assert (len(live.received), len(silent.received)) == (JOBS, JOBS)
        assert (second.charged_msat, second.most_msat) == (JOBS * COST, 2 * JOBS * COST)
        home.answer(silent)
        await until(lambda: first.decided and second.decided)
        assert swarm.rest_of(silent.public) is None
    assert (first.charged_msat, second.charged_msat) == (JOBS * COST, 2 * JOBS * COST)
    assert sum(home.till.receipts.values()) == 2 * JOBS * COST


class Slow(Asking):
    """Its disk takes a while."""

    async def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Msat | None:
        await asyncio.sleep(0.5)
        return await super().accept(bill, offer, result)


async def test_an_answer_that_came_before_it_was_taken_back_is_neither_asked_nor_paid_again(home: Home) -> None:
    home.till = Slow()
    silent = home.provider(silent=True)
    reservation = CallReservation(2 * JOBS * COST)
    async with AsyncExitStack() as stack:
        swarm = await home.process(stack)
        await interrupted(home, swarm, silent, CallReservation(JOBS * COST))
        home.answer(silent)
        outcomes = await home.mapped(swarm, reservation)
    assert [one.text for one in outcomes if isinstance(one, Answer)] == ["done meanwhile"] * JOBS
    assert len(home.relays.requests()) == JOBS
    assert sum(home.till.receipts.values()) == reservation.charged_msat == JOBS * COST
