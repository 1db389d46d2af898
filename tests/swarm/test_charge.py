"""What a request costs, step by step."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.money.msat import ZERO, Msat
from pylon.swarm.spending.charge import MOST_INVOICES, Charge, State

STEPS: dict[str, Callable[[Charge], object]] = {
    "begin": Charge.begin,
    "book": lambda charge: charge.book(Msat(5)),
    "book other": lambda charge: charge.book(Msat(7)),
    "take": Charge.take,
    "end": Charge.end,
    "fail": Charge.fail,
}
LEAVES = ("take", "end", "fail")


def test_a_receipt_that_holds_says_what_it_cost_and_what_of_that_is_new() -> None:
    charge = Charge(before=Msat(2))
    assert charge.begin() and charge.state is State.BOOKING and charge.is_settled and not charge.is_known
    charge.book(Msat(5))
    assert (charge.state, charge.is_known, charge.paid, charge.added) == (State.BOOKED, True, Msat(5), 3)
    # A correction downwards brings nothing back.
    less = Charge(before=Msat(9))
    less.book(Msat(5))
    assert less.added == 0


def test_what_came_without_a_receipt_counts_once_may_cost_anything_and_is_booked_when_one_comes() -> None:
    charge = Charge()
    assert charge.added == 0, "what is free costs nothing from the beginning"
    assert charge.begin() and charge.take()
    assert (charge.state, charge.is_settled, charge.added) == (State.TAKEN, False, None)
    assert charge.begin() and not charge.take()
    assert charge.begin()
    charge.book(Msat(5))
    assert charge.was_taken and charge.added == 5


@pytest.mark.parametrize("taken", [False, True])
def test_after_books_that_could_not_be_written_a_copy_is_booked(taken: bool) -> None:
    charge = Charge()
    if taken:
        charge.begin()
        charge.take()
    before = charge.state
    assert charge.begin()
    charge.fail()
    assert charge.state is before and charge.begin()


def test_of_a_relation_that_ended_no_copy_is_booked_and_what_it_cost_is_not_known() -> None:
    charge = Charge()
    charge.begin()
    charge.end()
    assert not charge.begin() and not charge.is_known


@settings(deadline=None)
@given(st.lists(st.sampled_from(list(STEPS)), max_size=12))
def test_whatever_comes_what_is_known_stands_and_no_step_is_taken_from_where_it_does_not_lead(
    steps: list[str],
) -> None:
    charge = Charge()
    for name in steps:
        before = (charge.state, charge.paid, charge.was_taken, charge.is_settled)
        after = [charge.state, charge.paid, charge.was_taken, charge.is_settled]
        legal = name not in LEAVES or charge.state is State.BOOKING or (charge.is_known and name != "take")
        if legal:
            came = STEPS[name](charge)
            after = [charge.state, charge.paid, charge.was_taken, charge.is_settled]
            if name == "begin":
                assert came is not before[3]
        else:
            with pytest.raises(ValueError, match="by being booked"):
                STEPS[name](charge)
            assert (charge.state, charge.paid, charge.was_taken, charge.is_settled) == before
        if before[0] is State.BOOKED:
            assert after[:2] == [State.BOOKED, before[1]]
        assert (charge.paid != ZERO) == charge.is_known
        assert charge.was_taken or not before[2], "that an answer was taken is not forgotten"


def test_an_invoice_is_asked_for_once_and_not_too_many_are() -> None:
    charge = Charge()
    for number in range(MOST_INVOICES):
        charge.bill(f"lnbcrt{number}")
    for invoice in ("lnbcrt0", "lnbcrt9"):
        assert not charge.may_bill(invoice)
        with pytest.raises(ValueError, match="invoice"):
            charge.bill(invoice)
    charge.unbill("lnbcrt0")
    assert charge.may_bill("lnbcrt0") and "lnbcrt0" not in charge.invoices
