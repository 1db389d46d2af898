"""Results whose receipts are booked before anybody hears of them."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pylon.errors import MoneyError
from pylon.jobs.answer import Address, Amount
from pylon.jobs.result import Finish, JobResult
from pylon.money.accounts.usage import Bounds, Usage
from pylon.money.msat import ZERO, Msat
from pylon.nostr.event import Event
from pylon.swarm.dispatch.messages import Acknowledged, Refused
from pylon.swarm.flights import Back, Flight, Flights
from pylon.swarm.providers.listing import Listing
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.spending.charge import MOST_INVOICES
from pylon.swarm.spending.purse import Bill, Offer, Purse
from pylon.swarm.spending.shown import Shown
from pylon.swarm.wire.meaning import PaymentAsked
from pylon.swarm.wire.settling import Settling

THEM, US = "b" * 64, "a" * 64
OFFER = Offer(Listing(THEM), Bounds(10, 10), Msat(5), Msat(5))
RESULT = Event("0" * 64, THEM, 0, 6940, (), "", "")


class Till:
    """Books by request: what is charged, None for an ended relation, an error for a book that cannot be written."""

    def __init__(self, **books: Msat | Exception | None) -> None:
        self.books = books
        self.asked: list[str] = []
        self.sent_bytes: list[int | None] = []

    def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Awaitable[Msat | None]:
        self.asked.append(bill.request)
        self.sent_bytes.append(bill.sent_bytes)
        if bill.request not in self.books:
            raise KeyError(bill.request)
        return self._book(bill.request)

    async def _book(self, request: str) -> Msat | None:
        await asyncio.sleep(0)
        if isinstance(booked := self.books[request], Exception):
            raise booked
        return booked


class Payer(Till):
    """Pays when it is let, and only what somebody wants then; counts what it was asked."""

    def __init__(self, error: str = "", fault: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.fault = fault
        self.let = asyncio.Event()
        self.paid: list[str] = []

    async def pay(
        self, bill: Bill, offer: Offer, amount: Amount | None, *, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        await self.let.wait()
        if self.fault is not None:
            raise self.fault
        if self.error or not wanted():
            raise MoneyError(self.error or "nobody waits for it")
        self.paid.append(bill.request)


@dataclass
class Told:
    """Stands for the deciders: every attempt is waited for, and what they are told is remembered."""

    told: list[Any]
    waits: Callable[[int], bool] = lambda _: True

    @property
    def dispatcher(self) -> "Told":
        return self

    def is_live(self, attempt: int) -> bool:
        return self.waits(attempt)

    def tell(self, event: object) -> None:
        self.told.append(event)


@dataclass
class Heard:
    """Stands for `Answers`."""

    answers: list[str]
    unpaid: list[tuple[int, str]] = field(default_factory=list)
    want_money: list[str] = field(default_factory=list)

    def answered(self, flight: Flight) -> None:
        self.answers.append(flight.request)

    def part_paid(self, flight: Flight) -> None:
        self.answers.append(f"a part of {flight.request}")

    def not_paid(self, slot: int, detail: str) -> None:
        self.unpaid.append((slot, detail))

    def not_offered(self, slot: int, provider: str) -> None:
        self.unpaid.append((slot, provider))

    def wants_money(self, provider: str) -> None:
        self.want_money.append(provider)


def settling(till: Till) -> tuple[Settling, list[str], list[Any]]:
    answered: list[str] = []
    told: list[Any] = []
    deciders = Told(told)
    made = Settling(
        purse=cast("Purse", till), flights=Flights(), deciders=cast("Deciders", deciders), settled=Heard(answered)
    )
    return made, answered, told


def came(settling: Settling, *requests: str) -> list[Flight]:
    flights: list[Flight] = []
    for attempt, request in enumerate(requests):
        result = JobResult(Address(request, US), 6940, "text")
        flight = Flight(request, 5940, attempt, attempt, THEM, 0, 0.0, OFFER, result=result)
        flights.append(flight)
        settling.result(RESULT, flight)
        settling.result(RESULT, flight)
    return flights


@pytest.mark.parametrize("broken", [{"broken": OSError("the disk is full")}, {}])
async def test_one_result_that_cannot_be_booked_takes_no_other_with_it(broken: dict[str, Exception]) -> None:
    till = Till(first=Msat(3), ended=None, last=ZERO, **broken)
    made, answered, told = settling(till)
    came(made, "first", "broken", "ended", "last")
    await asyncio.sleep(0)
    await made.close()
    assert answered == ["first", "last"]
    assert set(told) == {Refused(1, None, ours=True), Refused(2, None)}
    booked = [request for request in till.asked if request != "broken"]
    assert booked == ["first", "ended", "last"], "a copy of a result is booked no second time"


async def test_a_result_that_could_not_be_booked_fails_its_attempt_and_counts_once_a_copy_of_it_is() -> None:
    till = Till(broken=OSError("the disk is full"))
    made, answered, told = settling(till)
    [flight] = came(made, "broken")
    await made.close()
    assert (answered, told) == ([], [Refused(0, None, ours=True)])
    till.books["broken"] = Msat(3)
    made.result(RESULT, flight)
    made.result(RESULT, flight)
    await made.close()
    assert (answered, told, flight.charge.paid) == (["broken"], [Refused(0, None, ours=True)], Msat(3))
    assert till.asked == ["broken"] * 2


async def test_the_receipt_of_a_result_that_could_not_be_booked_is_still_expected_when_its_slot_is_over() -> None:
    made, _, _ = settling(Till(broken=OSError("the disk is full")))
    [flight] = came(made, "broken")
    made.flights.add(flight)
    await made.close()
    made.flights.end(flight.slot)
    assert made.flights.of_request("broken") is flight


async def test_a_result_that_came_just_before_the_end_is_booked() -> None:
    made, answered, _ = settling(Till(late=Msat(3)))
    came(made, "late")
    await made.close()
    assert answered == ["late"]


async def test_one_that_comes_while_another_is_booked_at_the_end_is_booked_too() -> None:
    class Long(Till):
        async def _book(self, request: str) -> Msat | None:
            for _ in range(10):
                await asyncio.sleep(0)
            if request == "first":
                came(made, "second")
            return await super()._book(request)

    made, answered, _ = settling(Long(first=Msat(3), second=Msat(3)))
    came(made, "first")
    await made.close()
    assert answered == ["first", "second"]


PART = JobResult(Address("part", US), 6940, "", usage=Usage(5, 10), finish=Finish.CANCELLED)


def taken_back(*, stream: bool = True) -> Flight:
    return Flight("part", 5940, 0, 0, THEM, 0, 0.0, OFFER, stream=stream, back=Back.HERE)


async def test_what_was_sent_of_an_answer_that_was_taken_back_is_booked_once_and_is_no_answer() -> None:
    till = Till(part=Msat(3))
    made, answered, told = settling(till)
    flight = taken_back()
    flight.shown = Shown(10, 10)
    made.taken_back(RESULT, flight, PART)
    made.taken_back(RESULT, flight, PART)
    await made.close()
    assert (answered, told, flight.charge.paid) == (["a part of part"], [], Msat(3))
    assert till.sent_bytes == [10]


async def test_a_part_waits_until_all_of_it_that_is_charged_for_was_seen() -> None:
    till = Till(part=Msat(3))
    made, answered, _ = settling(till)
    flight = taken_back()
    for flight.shown in (Shown(), Shown(9, 9), Shown(10, 10)):
        made.taken_back(RESULT, flight, PART)
    await made.close()
    assert (answered, till.sent_bytes) == (["a part of part"], [10])


async def test_a_part_of_an_answer_that_was_not_to_come_in_pieces_is_judged_at_once() -> None:
    till = Till(part=None)
    made, answered, told = settling(till)
    made.taken_back(RESULT, taken_back(stream=False), PART)
    await made.close()
    assert (answered, told, till.sent_bytes) == ([], [Refused(0, None)], [None])


@pytest.mark.parametrize("offer", [None, Offer(Listing(THEM, priced=False), Bounds(10, 10), ZERO, ZERO)])
async def test_who_asks_for_money_and_was_offered_none_is_not_paid_and_remembered(offer: Offer | None) -> None:
    made, _, told = settling(Till())
    asked: list[str] = []
    made.settled.wants_money = asked.append
    made.asked(RESULT, Flight("r", 5050, 1, 1, THEM, 0, 0.0, offer), PaymentAsked(1, None))
    assert (told, asked) == ([Refused(1, None, unpaid=True)], [THEM])
    made.deciders.waits = lambda _: False
    made.asked(RESULT, Flight("r", 5050, 1, 1, THEM, 0, 0.0, offer), PaymentAsked(1, None))
    assert len(told) == 1, "of a job that nobody waits for nothing follows"


def waits(made: Settling, request: str, number: int, topup: int = 5_000) -> Flight:
    offer = Offer(Listing(THEM), Bounds(10, 10), Msat(1_000), Msat(1_000), topup=Msat(topup))
    flight = Flight(request, 5940, number, number, THEM, 0, 0.0, offer)
    made.flights.add(flight)
    return flight


def asks(made: Settling, flight: Flight, invoice: str = "lnbcrt1", msat: int = 5_000) -> None:
    made.asked(RESULT, flight, PaymentAsked(flight.attempt, Amount(Msat(msat), invoice)))


async def test_an_invoice_that_several_jobs_are_asked_to_pay_is_paid_once_for_all_of_them() -> None:
    payer = Payer()
    made, _, told = settling(payer)
    flights = [waits(made, f"r{n}", n) for n in range(3)]
    for flight in flights:
        asks(made, flight)
        asks(made, flight)
    # Whoever was asked first is wanted no more; the others are.
    made.deciders.waits = lambda attempt: attempt != 0
    payer.let.set()
    await made.close()
    assert payer.paid == ["r0"]
    assert {type(one) for one in told} == {Acknowledged}
    # What it paid was not enough for this one too.
    asks(made, flights[1], "lnbcrt2")
    await made.close()
    assert payer.paid == ["r0", "r1"]


async def test_a_job_that_offered_less_leaves_the_invoice_to_the_one_that_asked_for_it() -> None:
    payer = Payer()
    made, _, _ = settling(payer)
    small, large = waits(made, "small", 1, topup=1_000), waits(made, "large", 2)
    payer.let.set()
    asks(made, small)
    asks(made, large)
    await made.close()
    assert payer.paid == ["large"]
    made.flights.end(large.slot)
    asks(made, small)
    await made.close()
    assert payer.paid == ["large", "small"], "where nobody else is left its own terms are looked at"


async def test_a_provider_that_asks_for_ever_new_invoices_of_one_job_is_not_listened_to() -> None:
    payer = Payer()
    payer.let.set()
    made, _, _ = settling(payer)
    flight = waits(made, "r", 1)
    for n in range(10):
        asks(made, flight, f"lnbcrt{n}")
    await made.close()
    assert len(payer.paid) == MOST_INVOICES


async def test_a_payment_that_failed_is_said_to_all_that_wait_for_it_and_to_nobody_that_runs_there(caplog) -> None:
    payer = Payer("the wallet holds less than 5 sat")
    made, _, told = settling(payer)
    why: list[tuple[int, str]] = []
    made.settled.not_paid = lambda slot, reason: why.append((slot, reason))
    flights = [waits(made, f"r{n}", n) for n in range(3)]
    for flight in flights[:2]:
        asks(made, flight)
    payer.let.set()
    await made.close()
    refused = [one for one in told if isinstance(one, Refused)]
    assert refused == [Refused(0, None, unpaid=True), Refused(1, None, unpaid=True)], "no provider said anything"
    assert why == [(0, payer.error), (1, payer.error)]
    # In words, and nothing else: a code alone says little to whoever reads it.
    [logged] = caplog.records
    assert logged.getMessage() == "a provider was not paid"
    assert logged.values == {"provider": THEM, "reason": payer.error}


async def test_a_payment_that_a_fault_of_ours_keeps_sends_all_that_wait_for_it_elsewhere_and_is_made_when_asked_again(
    caplog,
) -> None:
    payer = Payer(fault=sqlite3.OperationalError("database or disk is full"))
    made, _, told = settling(payer)
    flights = [waits(made, f"r{n}", n) for n in range(3)]
    for flight in flights[:2]:
        asks(made, flight)
    payer.let.set()
    await made.close()
    refused = [one for one in told if isinstance(one, Refused)]
    assert refused == [Refused(0, None, ours=True), Refused(1, None, ours=True)], "what they may cost stays set aside"
    assert [logged.getMessage() for logged in caplog.records] == ["what a provider asks for could not be paid"]
    payer.fault = None
    asks(made, flights[0])
    await made.close()
    assert payer.paid == ["r0"]


async def test_nothing_is_paid_for_what_an_earlier_process_took_back() -> None:
    payer = Payer()
    payer.let.set()
    made, _, told = settling(payer)
    for number, back in enumerate((Back.BEFORE, Back.PERHAPS)):
        flight = Flight(f"{number}", 5940, number, number, THEM, 0, 0.0, OFFER, back=back)
        made.flights.add(flight)
        made.asked(RESULT, flight, PaymentAsked(number, Amount(Msat(5), f"lnbcrt{number}")))
    await made.close()
    assert (payer.paid, told) == (["1"], [Acknowledged(1)])


async def test_nothing_is_paid_for_an_answer_that_is_being_booked() -> None:
    payer = Payer()
    payer.books["r"] = Msat(3)
    payer.let.set()
    made, answered, told = settling(payer)
    flight = waits(made, "r", 1)
    flight.result = JobResult(Address("r", US), 6940, "text")
    made.result(RESULT, flight)
    asks(made, flight)
    await made.close()
    assert (payer.paid, answered, told) == ([], ["r"], [])
