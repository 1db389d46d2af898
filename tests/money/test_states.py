import asyncio
import itertools
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import MoneyError
from pylon.money.accounts import holds
from pylon.money.accounts import store as account_store
from pylon.money.accounts.account import Terms
from pylon.money.accounts.holds import Admission
from pylon.money.accounts.store import Done
from pylon.money.invoices import invoice as invoices
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.store import Issued
from pylon.money.limits import Spend
from pylon.money.msat import ZERO, Msat
from pylon.money.payments import store as payment_store
from pylon.money.states import (
    HoldState,
    IllegalStepError,
    InvoiceState,
    PaymentState,
    check_step,
    may_follow,
)
from pylon.store.database import Transaction
from tests.money.craft import NOW, honest
from tests.money.fakes import open_database

KINDS = (PaymentState, InvoiceState, HoldState)
# No set: it would have "settled" once.
ENDED = (PaymentState.SETTLED, PaymentState.FAILED, InvoiceState.SETTLED, HoldState.RELEASED, HoldState.CHARGED)
HASH = invoices.decode(honest(5)).payment_hash


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_goes_back_and_what_is_no_step_raises(kind):
    for before, after in itertools.product(kind, kind):
        if may_follow(after, before):
            assert not may_follow(before, after)
            check_step("it", before, after)
        else:
            with pytest.raises(IllegalStepError, match=f"it that is {before.value} cannot become {after.value}"):
                check_step("it", before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_ended_stays_and_whatever_has_not_can_end(kind):
    for before in kind:
        following = [after for after in kind if may_follow(after, before)]
        assert (not following) is any(before is state for state in ENDED)


def test_a_word_that_two_kinds_have_is_not_taken_for_the_other():
    assert not may_follow(InvoiceState.SETTLED, PaymentState.SENDING)
    assert not may_follow(PaymentState.SETTLED, InvoiceState.PENDING)


async def test_the_database_takes_these_states_and_no_others(tmp_path):
    database = await open_database(tmp_path)
    for table, kept in (
        ("money_payment", set(PaymentState)),
        ("money_invoice", set(InvoiceState)),
        # Of what was charged the receipt tells.
        ("money_hold", {HoldState.HELD, HoldState.RELEASED}),
    ):
        row = await database.fetch_one("SELECT sql FROM sqlite_master WHERE name = ?", (table,))
        assert row is not None
        listed = re.search(r"state IN \(([^)]*)\)", row["sql"])
        assert listed is not None
        assert set(re.findall(r"'(\w+)'", listed[1])) == {state.value for state in kept}
    await database.close()


async def step_payment(tx: Transaction, state: PaymentState) -> None:
    if state is PaymentState.SETTLED:
        await payment_store.settle(tx, HASH, "00" * 32, ZERO, NOW)
    else:
        await payment_store.move(tx, HASH, state, "why", NOW)


async def step_invoice(tx: Transaction, state: InvoiceState) -> None:
    issued = await invoice_store.get(tx, HASH)
    assert issued is not None
    await invoice_store.move(tx, issued, state, NOW)


async def histories(
    payment: list[PaymentState], invoice: list[InvoiceState], hold: list[HoldState], folder: Path
) -> None:
    database = await open_database(folder)
    found = invoices.decode(honest(5))
    async with database.transaction() as tx:
        await payment_store.reserve(tx, found, Spend(Msat(5_000), ZERO, "job", "aa" * 32, ""), NOW)
        await invoice_store.add(
            tx, Issued(HASH, "job", "bb" * 32, Msat(5_000), "i", NOW, NOW + 600, InvoiceState.PENDING)
        )
        await holds.admit(tx, [Admission("bb" * 32, "job", Msat(10), Terms(credit=Msat(10)), NOW)])
    at: PaymentState | InvoiceState = PaymentState.RESERVED
    for state in payment:
        if await taken(database, step_payment, state):
            assert may_follow(state, at) or state is at
            at = state
        else:
            assert not may_follow(state, at)
        assert (await payment_store.get(database, HASH)).state is at
    at = InvoiceState.PENDING
    for state in invoice:
        if await taken(database, step_invoice, state):
            assert may_follow(state, at)
            at = state
        else:
            assert not may_follow(state, at)
        kept = await invoice_store.get(database, HASH)
        assert kept is not None
        assert kept.state is at
    charged = released = False
    for state in hold:
        done = await taken(database, step_hold, state)
        # To let go of what is not held says nothing, and a charge is the same receipt again.
        assert done is (state is HoldState.RELEASED or not released)
        charged = charged or (state is HoldState.CHARGED and not released)
        released = released or (state is HoldState.RELEASED and not charged)
        assert len(await account_store.receipts(database, "job")) == charged
        assert await holds.is_held(database, "job") is not (charged or released)
    await database.close()


async def step_hold(tx: Transaction, state: HoldState) -> None:
    if state is HoldState.CHARGED:
        await account_store.charge(tx, [Done("job", Msat(7), NOW)])
    else:
        await account_store.release(tx, "job")


async def taken(database, step, state) -> bool:  # type: ignore[no-untyped-def]
    try:
        async with database.transaction() as tx:
            await step(tx, state)
    except MoneyError:
        return False
    return True


@settings(max_examples=40, deadline=None)
@given(
    payment=st.lists(st.sampled_from(PaymentState), max_size=8),
    invoice=st.lists(st.sampled_from(InvoiceState), max_size=6),
    hold=st.lists(st.sampled_from([HoldState.CHARGED, HoldState.RELEASED]), max_size=5),
)
def test_no_history_writes_an_illegal_step(payment, invoice, hold):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(histories(payment, invoice, hold, Path(folder)))
