"""Results whose receipts are booked before anybody hears of them."""

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import pytest

from pylon.jobs.answer import Address
from pylon.jobs.result import Finish, JobResult, Usage
from pylon.money.msat import ZERO, Msat
from pylon.money.usage import Bounds
from pylon.nostr.event import Event
from pylon.swarm.flights import Flight, Flights, PaymentAsked
from pylon.swarm.listing import Listing
from pylon.swarm.money import Settling
from pylon.swarm.moves import Refused
from pylon.swarm.purse import Bill, Offer, Purse
from pylon.swarm.shown import Shown

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


def settling(till: Till) -> tuple[Settling, list[str], list[Any]]:
    answered: list[str] = []
    told: list[Any] = []
    made = Settling(
        cast("Purse", till),
        Flights(),
        told.append,
        lambda flight: answered.append(flight.request),
        lambda flight: answered.append(f"a part of {flight.request}"),
        lambda _: True,
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
    assert (answered, told, flight.paid) == (["broken"], [Refused(0, None, ours=True)], Msat(3))
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


PART = JobResult(Address("part", US), 6940, "", usage=Usage(5, 10), finish=Finish.CANCELLED)


def taken_back(*, stream: bool = True) -> Flight:
    return Flight("part", 5940, 0, 0, THEM, 0, 0.0, OFFER, stream=stream, cancelled=True)


async def test_what_was_sent_of_an_answer_that_was_taken_back_is_booked_once_and_is_no_answer() -> None:
    till = Till(part=Msat(3))
    made, answered, told = settling(till)
    flight = taken_back()
    flight.shown = Shown(10, 10)
    made.taken_back(RESULT, flight, PART)
    made.taken_back(RESULT, flight, PART)
    await made.close()
    assert (answered, told, flight.paid) == (["a part of part"], [], Msat(3))
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
    made.wants_money = asked.append
    made.asked(RESULT, Flight("r", 5050, 1, 1, THEM, 0, 0.0, offer), PaymentAsked(1, None))
    assert (told, asked) == ([Refused(1, None, unpaid=True)], [THEM])
    made.is_live = lambda _: False
    made.asked(RESULT, Flight("r", 5050, 1, 1, THEM, 0, 0.0, offer), PaymentAsked(1, None))
    assert len(told) == 1, "of a job that nobody waits for nothing follows"
