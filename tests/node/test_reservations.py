"""The names of calls that may cost something, and what the core says of them."""

import asyncio
from contextlib import suppress

import pytest

from pylon.errors import UsageError
from pylon.node.calls.reservations import KEEP_S, Reservations
from pylon.swarm.dispatch.budget import RunBudget
from tests.manual_clock import ManualClock

UNKNOWN = None


def told(reservations, *names):
    return reservations.rows({"names": list(names)})["reservations"]


def row(charged, most, *, over, decided):
    return {"charged_msat": charged, "most_msat": most, "over": over, "decided": decided}


def test_a_call_is_told_of_by_its_name_while_it_lasts_and_after_it():
    reservations, budget = Reservations(ManualClock()), RunBudget(50)
    with reservations.of({"budget_msat": 50, "reservation": "a"}) as reservation:
        reservation.begin(budget)
        budget.reserved = 20
        assert told(reservations, "a", "b") == {"a": row(0, 50, over=False, decided=False), "b": UNKNOWN}
    budget.reserved, budget.open, budget.over = 0, 20, True
    assert told(reservations, "a") == {"a": row(0, 20, over=True, decided=False)}
    budget.open, budget.spent = 0, 7
    assert told(reservations, "a") == {"a": row(7, 7, over=True, decided=True)}


def test_one_that_is_decided_is_told_for_some_minutes_however_late_that_was():
    clock = ManualClock()
    reservations, budget = Reservations(clock), RunBudget(50)
    with reservations.of({"budget_msat": 50, "reservation": "a"}) as reservation:
        reservation.begin(budget)
    budget.open, budget.over = 20, True
    for _ in range(20):
        clock.advance(KEEP_S - 1)
        assert told(reservations, "a")["a"] == row(0, 20, over=True, decided=False)
    budget.open = 0
    clock.advance(KEEP_S - 1)
    assert told(reservations, "a")["a"] == row(0, 0, over=True, decided=True)
    clock.advance(2 * KEEP_S)
    told(reservations)
    clock.advance(2 * KEEP_S)
    assert told(reservations, "a") == {"a": UNKNOWN}
    assert not reservations._by_name and not reservations._over


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"reservation": "a"}, "has no amount"),
        ({"reservation": "", "budget_msat": 1}, "1 to 64"),
        ({"reservation": "a" * 65, "budget_msat": 1}, "1 to 64"),
        ({"reservation": 7, "budget_msat": 1}, "must be text"),
        ({"reservation": "taken", "budget_msat": 1}, "already a reservation"),
    ],
)
def test_a_name_that_cannot_be_is_refused(params, says):
    reservations = Reservations(ManualClock())
    with reservations.of({"reservation": "taken", "budget_msat": 1}):
        pass
    with pytest.raises(UsageError, match=says), reservations.of(params):
        pass
    for names in (None, "a", [1], ["a"] * 10_001):
        with pytest.raises(UsageError, match="list of at most"):
            reservations.rows({"names": names})


def test_without_a_budget_nothing_is_set_aside_and_without_a_name_nobody_asks_after_it():
    reservations = Reservations(ManualClock())
    with reservations.of({}) as nothing:
        assert nothing is None
    with reservations.of({"budget_msat": 3}) as unnamed:
        assert unnamed.msat == 3
    assert not reservations._by_name and not reservations._over


async def test_a_call_that_is_cancelled_is_over():
    reservations = Reservations(ManualClock())

    async def call():
        with reservations.of({"budget_msat": 3, "reservation": "a"}):
            await asyncio.sleep(60)

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert told(reservations, "a") == {"a": row(0, 0, over=True, decided=True)}
