import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MoneyError
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.books.ledger import Entry, Kind
from pylon.money.msat import Msat
from tests.money.fakes import open_database

AMOUNTS = st.integers(1, 10**9).map(Msat)
ALICE = ledger.customer("aa")


@pytest.fixture
async def database(tmp_path):
    database = await open_database(tmp_path)
    yield database
    await database.close()


def test_a_top_up_and_its_charge_leave_the_rest_with_the_customer():
    entries = [
        ledger.topup_received(0, "aa", "h1", Msat(5_000)),
        ledger.charged(1, "aa", "j1", Msat(1_500)),
    ]
    assert ledger.balances(entries) == {ledger.WALLET: 5_000, ALICE: 3_500, ledger.EARNED: 1_500}


def test_every_account_says_in_words_what_its_balance_means():
    entries = [
        *ledger.topup_paid(0, "bb", "h1", Msat(5_000), Msat(20)),
        *ledger.paid_by_hand(0, "cc", "h2", Msat(5), Msat(0)),
        *ledger.work_received(1, "bb", "bb/e/1", 1_500),
        ledger.charged(1, "aa", "j1", Msat(1_500)),
        ledger.credit_found(1, "bb", "bb/e/0", Msat(3)),
    ]
    said = {account: ledger.meaning(account, balance) for account, balance in ledger.balances(entries).items()}
    assert all(said.values()) and len(said) == 8
    # Who put money in by hand and spent it reads of a wallet below zero, and is told why.
    assert said[ledger.WALLET] == "more went out than customers paid in"
    assert said[ALICE] == "owes us" and said[ledger.provider("bb")] == "we have a balance with it"
    assert ledger.meaning(ledger.provider("bb"), -1) == "we owe it"


def test_credit_shows_as_a_balance_below_zero():
    assert ledger.balances([ledger.charged(1, "aa", "j1", Msat(1_500))])[ALICE] == -1_500


def test_a_payment_and_its_fee_leave_the_wallet_and_the_rest_stays_with_the_provider():
    entries = [
        *ledger.topup_paid(0, "bb", "h1", Msat(5_000), Msat(20)),
        *ledger.work_received(1, "bb", "bb/e/1", 1_500),
        *ledger.work_received(2, "bb", "bb/e/2", -1_500),
        *ledger.work_received(3, "bb", "bb/e/3", 0),
    ]
    found = ledger.balances(entries)
    assert found == {ledger.provider("bb"): 5_000, ledger.WALLET: -5_020, ledger.FEES: 20, ledger.SPENT: 0}


def test_what_is_paid_by_hand_stands_under_its_payee_and_no_provider():
    found = ledger.balances(ledger.paid_by_hand(0, "02ff", "h1", Msat(5_000), Msat(20)))
    assert found == {ledger.by_hand("02ff"): 5_000, ledger.WALLET: -5_020, ledger.FEES: 20}
    assert ledger.imbalance(found) == 0


ENTRIES = st.one_of(
    st.builds(ledger.topup_received, st.just(0.0), st.sampled_from("abc"), st.uuids().map(str), AMOUNTS),
    st.builds(ledger.charged, st.just(0.0), st.sampled_from("abc"), st.uuids().map(str), AMOUNTS),
    st.builds(
        lambda *of: ledger.paid_by_hand(*of)[0],
        st.just(0.0),
        st.sampled_from("abc"),
        st.uuids().map(str),
        AMOUNTS,
        AMOUNTS,
    ),
    st.builds(ledger.credit_found, st.just(0.0), st.sampled_from("abc"), st.uuids().map(str), AMOUNTS),
)


@given(st.lists(ENTRIES))
def test_every_ledger_balances(entries):
    assert ledger.imbalance(ledger.balances(entries)) == 0


async def test_balances_in_the_database_are_those_of_the_entries(database):
    entries = [
        ledger.topup_received(0, "aa", "h1", Msat(5_000)),
        ledger.charged(1, "aa", "j1", Msat(1_500)),
        *ledger.topup_paid(0, "bb", "h2", Msat(7_000), Msat(3)),
    ]
    async with database.transaction() as tx:
        assert await ledger_store.book(tx, entries) == 4
    assert await ledger_store.entries(database) == entries
    for account, balance in ledger.balances(entries).items():
        assert await ledger_store.balance(database, account) == balance
    assert await ledger_store.balances(database) == dict(sorted(ledger.balances(entries).items()))
    assert await ledger_store.entries(database, kinds=[Kind.CHARGED]) == [entries[1]]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE money_ledger SET msat = 1",
        "DELETE FROM money_ledger",
        "INSERT INTO money_ledger (at, kind, reference, debit, credit, msat) VALUES (0, 'k', 'r', 'a', 'b', 0)",
        "INSERT INTO money_ledger (at, kind, reference, debit, credit, msat) VALUES (0, 'k', 'r', 'a', 'b', -5)",
        "INSERT INTO money_ledger (at, kind, reference, debit, credit, msat) VALUES (0, 'k', 'r', 'a', 'a', 5)",
        "INSERT INTO money_ledger (at, kind, reference, debit, credit, msat) VALUES (0, 'k', 'r', 'a', 'b', 1.5)",
    ],
)
async def test_the_database_itself_refuses_to_rewrite_or_bend_the_ledger(database, sql):
    async with database.transaction() as tx:
        await ledger_store.book(tx, [ledger.charged(1, "aa", "j1", Msat(1_500))])
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction() as tx:
            await tx.execute(sql)


async def test_nothing_is_booked_twice(database):
    entry = ledger.charged(1, "aa", "j1", Msat(1_500))
    async with database.transaction() as tx:
        assert await ledger_store.book(tx, [entry]) == 1
        assert await ledger_store.book(tx, [entry]) == 0
    assert await ledger_store.balance(database, ALICE) == -1_500


async def test_the_same_reference_with_another_amount_is_an_error(database):
    async with database.transaction() as tx:
        await ledger_store.book(tx, [ledger.charged(1, "aa", "j1", Msat(1_500))])
    with pytest.raises(MoneyError):
        async with database.transaction() as tx:
            await ledger_store.book(tx, [Entry(1, Kind.CHARGED, "j1", ALICE, ledger.EARNED, Msat(1))])
