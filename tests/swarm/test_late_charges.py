"""What a budget counts of requests that nobody waits for any more, or whose answer came without a receipt."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field

import pytest

from pylon.jobs.answer import Address
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import result_kind
from pylon.jobs.request import ReceivedRequest
from pylon.jobs.result import JobResult, result_draft
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.msat import ZERO, Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.swarm import flights
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, JobSpec
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.spending.purse import Bill, Offer
from tests.swarm.fakes import FakeProvider, FakeRelays
from tests.swarm.test_reservation import QUESTION, cancel, client
from tests.swarm.test_run_cost import EACH, PRICE, Till
from tests.waiting import until


@dataclass
class ByReceipt(Till):
    """Books what receipts say, and nothing without one."""

    def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Awaitable[Msat | None] | None:  # type: ignore[override]
        return None if result.account is None else self._book(bill.request, result.account.charge_msat)

    async def _book(self, request: str, charge_msat: int) -> Msat:
        await asyncio.sleep(0)
        self.receipts[request] = charge_msat
        return Msat(charge_msat)


class Withheld(FakeProvider):
    """Answers without receipts, and signs them later."""

    def receipt(self, relays: FakeRelays, request: ReceivedRequest, charge_msat: int, text: str = "again") -> None:
        [event] = [one for one in relays.requests() if one.id == request.id]
        account = AccountReceipt("0" * 16, 1, charge_msat, Msat(charge_msat), ZERO)
        address = Address(request.id, request.customer, request.private)
        result = JobResult(address, result_kind(request.job.kind), text, self.used, account=account)
        keys = ConversationKeys(self.secret)
        relays.give(self.secret.sign(result_draft(result, keys, request=event, created_at=int(time.time()))))


async def test_an_answer_without_a_receipt_counts_as_all_that_it_may_cost_until_its_receipt_comes() -> None:
    relays, till, reservation = FakeRelays(), ByReceipt(), CallReservation(2 * int(EACH))
    provider = Withheld(relays, now=time.time(), slots=5, price=PRICE, network="play")
    async with client(relays, till) as swarm:
        await swarm.caught_up()
        specs = [JobSpec(f"question {n}", max_tokens=8) for n in range(3)]
        outcomes = await asyncio.wait_for(swarm.map(specs, reservation=reservation), 30.0)
        answers = [one for one in outcomes if isinstance(one, Answer)]
        assert [one.reason for one in outcomes if isinstance(one, JobFailed)] == [Failure.BUDGET]
        assert [(one.paid, one.verified) for one in answers] == [(ZERO, ("signature",))] * 2
        assert (reservation.charged_msat, reservation.most_msat, reservation.decided) == (0, 2 * int(EACH), False)
        for request, charge_msat in zip(provider.received, (5, 3), strict=True):
            provider.receipt(relays, request, charge_msat)
        await until(lambda: reservation.decided)
    assert (reservation.charged_msat, reservation.most_msat, sum(till.receipts.values())) == (8, 8, 8)


async def test_an_answer_is_taken_once_whatever_comes_without_a_receipt_after_it() -> None:
    relays, till, reservation = FakeRelays(), ByReceipt(), CallReservation(int(EACH))
    provider = Withheld(relays, now=time.time(), price=PRICE, network="play")
    heard: list[object] = []
    async with client(relays, till) as swarm:
        await swarm.caught_up()
        slow = JobSpec("slow", max_tokens=8)
        [outcome] = await swarm.map([slow], reservation=reservation, on_outcome=lambda _, one: heard.append(one))
        [request] = provider.received
        provider.result(relays.requests()[0], request, "another text")
        await asyncio.sleep(0.2)
        assert not reservation.decided and len(swarm._parts.flights._late) == 1
        provider.receipt(relays, request, 4)
        await until(lambda: reservation.decided)
    assert isinstance(outcome, Answer) and heard == [outcome] and reservation.charged_msat == 4


@dataclass
class Strict(Till):
    """Books nothing of who had said that it does not do the job."""

    def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Awaitable[Msat | None] | None:  # type: ignore[override]
        return self._refuse() if bill.let_go else super().accept(bill, offer, result)

    async def _refuse(self) -> None: ...


@pytest.mark.parametrize("before_the_end", [True, False])
async def test_who_says_that_a_job_is_not_done_and_charges_for_it_is_not_paid_of_any_budget(
    before_the_end: bool,
) -> None:
    relays, till, reservation = FakeRelays(), Strict(), CallReservation(2 * int(EACH))
    liar = FakeProvider(relays, now=time.time(), refuse=ErrorCode.ENGINE_FAILED, price=PRICE, network="play")
    async with client(relays, till) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: liar.received)
        event = relays.requests()[0]
        if before_the_end:
            await asyncio.sleep(0.1)
            liar.result(event, liar.received[0], "after all")
            await asyncio.sleep(0.1)
        FakeProvider(relays, now=time.time(), price=PRICE, network="play")
        single = await asyncio.wait_for(asking, 30.0)
        liar.result(event, liar.received[0], "after all")
        await asyncio.sleep(0.1)
    assert isinstance(single.outcome, Answer) and single.outcome.text == "echo: a question"
    assert (single.msat, reservation.charged_msat, reservation.most_msat) == (7, 7, 7)
    assert list(till.receipts.values()) == [7] and event.id not in till.receipts


class Contrary(FakeProvider):
    """Answers, and says in the same breath that it does not do the job."""

    def result(self, event: Event, request: ReceivedRequest, text: str, *, as_: SecretKey | None = None) -> Event:
        signed = super().result(event, request, text, as_=as_)
        self.refused(request, ErrorCode.ENGINE_FAILED)
        return signed


@dataclass
class Slow(Till):
    """Books when it is let."""

    let: asyncio.Event = field(default_factory=asyncio.Event)

    async def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Msat | None:
        await self.let.wait()
        return await super().accept(bill, offer, result)


async def test_who_takes_back_an_answer_that_is_being_booked_makes_a_run_cost_no_more_than_its_budget() -> None:
    relays, till, reservation = FakeRelays(), Slow(), CallReservation(int(EACH))
    liar = Contrary(relays, now=time.time(), price=PRICE, network="play")
    async with client(relays, till) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: liar.received)
        other = FakeProvider(relays, now=time.time(), price=PRICE, network="play")
        await asyncio.sleep(0.2)
        till.let.set()
        single = await asyncio.wait_for(asking, 30.0)
    assert isinstance(single.outcome, Answer) and single.outcome.provider == liar.public
    assert other.received == [] and sum(till.receipts.values()) == reservation.charged_msat == EACH


async def test_of_what_is_decided_nothing_is_kept() -> None:
    relays, till, reservation = FakeRelays(), Till(), CallReservation(1_000)
    provider = FakeProvider(relays, now=time.time(), slots=20, silent=True, price=PRICE, network="play")
    async with client(relays, till) as swarm:
        await swarm.caught_up()
        specs = [JobSpec(f"question {n}", max_tokens=8) for n in range(10)]
        asking = asyncio.create_task(swarm.map(specs, reservation=reservation))
        await until(lambda: len(provider.received) == 10)
        await cancel(asking)
        late = swarm._parts.flights._late
        assert len(late) == 10
        events = {event.id: event for event in relays.requests()}
        for request in provider.received:
            provider.result(events[request.id], request, "a long text" * 1_000)
        await until(lambda: reservation.decided)
        await until(lambda: not late)
    assert reservation.charged_msat == 10 * int(EACH)


async def test_what_a_budget_waits_to_know_is_found_however_much_else_was_given_up_meanwhile(monkeypatch) -> None:
    monkeypatch.setattr(flights, "LATE", 10)
    relays, till, reservation = FakeRelays(), Till(), CallReservation(1_000)
    provider = FakeProvider(relays, now=time.time(), slots=40, silent=True, price=PRICE, network="play")
    async with client(relays, till) as swarm:
        swarm._parts.flights._sweep_above = 10
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: provider.received)
        await cancel(asking)
        others = asyncio.create_task(swarm.map([JobSpec(f"other {n}", max_tokens=8) for n in range(40)]))
        await until(lambda: len(provider.received) == 41)
        await cancel(others)
        assert len(swarm._parts.flights._late) < 15
        first = provider.received[0]
        swarm._parts.answers.booked(first.id, EACH)
        assert (reservation.charged_msat, reservation.decided) == (int(EACH), True)


@pytest.mark.parametrize("late", ["pushed", "found"])
async def test_a_receipt_whose_booking_failed_while_its_job_was_cancelled_counts_when_it_is_booked(late) -> None:
    class Locked(Till):
        let = asyncio.Event()
        began = fails = 0

        async def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Msat | None:
            self.began += 1
            await self.let.wait()
            if not self.fails:
                self.fails += 1
                raise OSError("the database is locked")
            return await super().accept(bill, offer, result)

    relays, till, reservation = FakeRelays(), Locked(), CallReservation(1_000)
    till.let = asyncio.Event()
    provider = FakeProvider(relays, now=time.time(), price=PRICE, network="play")
    async with client(relays, till) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.single(QUESTION, reservation=reservation))
        await until(lambda: till.began)
        await cancel(asking)
        till.let.set()
        await until(lambda: till.fails)
        await asyncio.sleep(0.1)
        assert (reservation.most_msat, reservation.decided) == (int(EACH), False)
        [request] = provider.received
        if late == "pushed":
            provider.result(relays.requests()[0], request, "once more")
            await until(lambda: reservation.decided)
        else:
            swarm._parts.answers.booked(request.id, EACH)
    assert (reservation.charged_msat, reservation.decided) == (int(EACH), True)
