import asyncio
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import MoneyError
from pylon.money import audit
from pylon.money.accounts import account as decider
from pylon.money.accounts import holds as hold_store
from pylon.money.accounts import mirror_store
from pylon.money.accounts import store as account_store
from pylon.money.accounts.account import (
    TRUSTED,
    Account,
    Agreement,
    AskTopUp,
    Basis,
    Run,
    Terms,
    TooMuch,
    Trial,
    WaitForTopUp,
)
from pylon.money.accounts.holds import Admission
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.accounts.store import Done
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import ZERO, Msat
from pylon.money.schema import MONEY
from pylon.store.database import Database, Schema
from tests.money import accounts
from tests.money.craft import NOW
from tests.money.fakes import open_database

EPOCH = "00" * 8
NEW = Account(EPOCH)
STRANGER = Terms(trial=True)
TRIAL = Trial()
sats = Msat.from_sats


def admit(account: Account, terms: Terms, quote: Msat, **more: object) -> object:
    return decider.admit(account, terms, quote, **{"trial": TRIAL, "trial_left_today": sats(50), **more})  # type: ignore[arg-type]


# --- the decisions --------------------------------------------------------------------------------------------------


def test_a_stranger_gets_one_small_job_on_credit():
    assert admit(NEW, STRANGER, sats(2)) == Run(Basis.TRIAL)
    assert admit(NEW, STRANGER, Msat(2_001)) == AskTopUp(sats(3))
    assert admit(replace(NEW, trial_used=True), STRANGER, sats(2)) == AskTopUp(sats(2))


def test_strangers_together_get_no_more_than_the_day_allows():
    assert admit(NEW, STRANGER, sats(2), trial_left_today=sats(1)) == AskTopUp(sats(2))


def test_a_customer_that_owes_its_trial_pays_it_with_the_next_job():
    owing = replace(NEW, charged_total=sats(2), trial_used=True)
    assert admit(owing, STRANGER, sats(3)) == AskTopUp(sats(5))


def test_a_plain_customer_pays_exactly_one_job():
    assert admit(NEW, Terms(), sats(7)) == AskTopUp(sats(7))
    assert admit(NEW, Terms(), Msat(6_001)) == AskTopUp(sats(7))


def test_a_wish_makes_the_top_up_larger_and_never_smaller_than_needed():
    assert admit(NEW, Terms(), sats(7), wish=sats(21)) == AskTopUp(sats(21))
    assert admit(NEW, Terms(), sats(7), wish=sats(3)) == AskTopUp(sats(7))


def test_nobody_leaves_more_than_the_largest_deposit():
    terms = Terms(most_deposit=sats(10))
    assert admit(NEW, terms, sats(7), wish=sats(1_000)) == AskTopUp(sats(10))
    assert admit(NEW, terms, sats(11)) == TooMuch()
    # What is there already counts, and so does what is held for other jobs.
    some = decider.credit(NEW, sats(6))
    assert admit(some, terms, sats(7), wish=sats(1_000)) == AskTopUp(sats(4))
    assert admit(decider.hold(some, sats(5), Basis.PREPAID), terms, sats(3), wish=sats(1_000)) == AskTopUp(sats(4))
    # What a job lacks is asked for in any case.
    assert admit(decider.hold(some, sats(5), Basis.PREPAID), terms, sats(7), wish=sats(1_000)) == AskTopUp(sats(6))


def test_32_jobs_at_once_ask_for_one_top_up():
    account, decisions = NEW, []
    for _ in range(32):
        decision = admit(account, Terms(), sats(5), wish=sats(15))
        decisions.append(decision)
        if isinstance(decision, AskTopUp):
            account = replace(account, topup_open=True)
    assert decisions == [AskTopUp(sats(15)), *[WaitForTopUp(sats(5), sats(15))] * 31]


def test_an_open_payment_fits_a_job_that_it_covers_and_whose_customer_spoke_of_as_much():
    waits = WaitForTopUp(sats(5), sats(15))
    assert [waits.fits(sats(n)) for n in (4, 5, 15, 16)] == [False, True, True, False]


def test_a_granted_credit_is_used_before_payment_is_asked():
    terms = Terms(credit=sats(10))
    assert admit(NEW, terms, sats(10)) == Run(Basis.CREDIT)
    assert admit(decider.hold(NEW, sats(6), Basis.CREDIT), terms, sats(5)) == AskTopUp(sats(1))
    assert admit(decider.credit(NEW, sats(5)), terms, sats(5)) == Run(Basis.PREPAID)


def test_trusted_keys_and_free_work_are_metered_and_never_charged():
    assert admit(NEW, TRUSTED, sats(1_000_000)) == Run(Basis.METERED)
    assert admit(NEW, Terms(), ZERO) == Run(Basis.METERED)
    account, receipt = decider.charge(NEW, sats(9), Basis.METERED, sats(9))
    assert (receipt.charge_msat, account.balance) == (0, 0)


def test_a_charge_above_the_quote_is_an_error():
    held = decider.hold(decider.credit(NEW, sats(9)), sats(2), Basis.PREPAID)
    with pytest.raises(MoneyError):
        decider.charge(held, sats(2), Basis.PREPAID, Msat(2_001))


@given(
    st.integers(0, 20_000).map(Msat),
    st.lists(st.tuples(st.integers(1, 6_000).map(Msat), st.floats(0, 1), st.integers(0, 3)), max_size=40),
)
def test_no_history_takes_an_account_below_its_credit(credit, jobs):
    account, terms = NEW, Terms(credit=credit)
    running: list[tuple[Msat, Basis]] = []
    for quote, share, action in jobs:
        decision = decider.admit(account, terms, quote)
        if isinstance(decision, Run):
            account = decider.hold(account, quote, decision.basis)
            running.append((quote, decision.basis))
        elif isinstance(decision, AskTopUp) and action == 1:
            account = decider.credit(account, decision.amount)
        if running and action == 2:
            quote, basis = running.pop()
            account, _ = decider.charge(account, quote, basis, Msat(int(int(quote) * share)))
        elif running and action == 3:
            quote, basis = running.pop()
            account = decider.release(account, quote, basis)
        assert account.balance - int(account.held) >= -int(credit)


def test_what_a_customer_acknowledges_is_compared():
    account, receipt = decider.charge(decider.hold(NEW, sats(5), Basis.CREDIT), sats(5), Basis.CREDIT, sats(3))
    same = AccountSeen(EPOCH, 1, sats(3))
    assert decider.compare(account, None, None) is Agreement.NOTHING
    assert decider.compare(account, same, receipt) is Agreement.AGREES
    assert decider.compare(account, AccountSeen(EPOCH, 0, ZERO), None) is Agreement.BEHIND
    assert decider.compare(account, AccountSeen("11" * 8, 4, sats(3)), None) is Agreement.OTHER_EPOCH
    assert decider.compare(account, AccountSeen(EPOCH, 2, sats(3)), None) is Agreement.AHEAD
    assert decider.compare(account, AccountSeen(EPOCH, 1, sats(2)), receipt) is Agreement.DIFFERS


# --- the same in the database ---------------------------------------------------------------------------------------


@pytest.fixture
async def database(tmp_path):
    database = await open_database(tmp_path)
    yield database
    await database.close()


async def admit_in(database, customer, job, quote, terms=STRANGER, now=float(NOW), **more):
    async with database.transaction() as tx:
        (decision,) = await hold_store.admit(tx, [Admission(customer, job, quote, terms, now, trial=TRIAL, **more)])
        return decision


async def charged(tx, job, amount, now=float(NOW)):
    (receipt,) = await account_store.charge(tx, [Done(job, amount, now)])
    return receipt


async def topped_up(database, customer, amount, payment_hash="h1"):
    """A settled invoice, as the receiver leaves it."""
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO money_invoice VALUES (?, ?, ?, ?, '', ?, ?, 'settled', ?)",
            (payment_hash, payment_hash, customer, int(amount), NOW, NOW, NOW),
        )
        await ledger_store.book(tx, [ledger.topup_received(NOW, customer, payment_hash, amount)])


async def test_a_charged_job_leaves_a_receipt_and_a_ledger_entry(database):
    await topped_up(database, "aa", sats(10))
    assert await admit_in(database, "aa", "j1", sats(4)) == Run(Basis.PREPAID)
    account = await accounts.load(database, "aa")
    assert (account.held, account.balance) == (sats(4), 10_000)
    async with database.transaction() as tx:
        receipt = await charged(tx, "j1", Msat(3_500))
    assert (receipt.seq, receipt.charge_msat, receipt.charged_total, receipt.paid_total) == (1, 3_500, 3_500, 10_000)
    account = await accounts.load(database, "aa")
    assert (account.held, account.balance, account.epoch) == (ZERO, 6_500, receipt.epoch)
    assert await ledger_store.balance(database, ledger.customer("aa")) == 6_500
    assert audit.examine(await audit.collect(database)) == []


async def test_charging_a_job_again_gives_the_same_receipt(database):
    await admit_in(database, "aa", "j1", sats(2))
    async with database.transaction() as tx:
        first = await charged(tx, "j1", sats(1))
        assert await charged(tx, "j1", sats(2)) == first
    assert await ledger_store.balance(database, ledger.customer("aa")) == -1_000


async def test_admitting_a_job_again_gives_the_same_answer_and_one_hold(database):
    assert await admit_in(database, "aa", "j1", sats(2)) == Run(Basis.TRIAL)
    assert await admit_in(database, "aa", "j1", sats(2)) == Run(Basis.TRIAL)
    assert (await accounts.load(database, "aa")).held == sats(2)
    with pytest.raises(MoneyError):
        await admit_in(database, "bb", "j1", sats(2))


async def test_a_failed_job_costs_nothing_and_gives_the_trial_back(database):
    await admit_in(database, "aa", "j1", sats(2))
    async with database.transaction() as tx:
        await account_store.release(tx, "j1")
    assert await admit_in(database, "aa", "j2", sats(2)) == Run(Basis.TRIAL)
    with pytest.raises(MoneyError):
        await admit_in(database, "aa", "j1", sats(2))


async def test_a_trial_that_is_taken_back_when_the_model_works_on_it_is_spent(database):
    await admit_in(database, "aa", "j1", sats(2))
    async with database.transaction() as tx:
        await account_store.release(tx, "j1", wasted=True)
    assert await admit_in(database, "aa", "j2", sats(2)) == AskTopUp(sats(2))
    # Of the day's trials, too.
    assert await hold_store.trial_left(database, TRIAL, NOW) == sats(48)


async def test_the_26th_stranger_of_a_day_pays_and_the_next_day_tries(database):
    for number in range(25):
        assert await admit_in(database, f"c{number}", f"j{number}", sats(2)) == Run(Basis.TRIAL)
    assert await admit_in(database, "c25", "j25", sats(2)) == AskTopUp(sats(2))
    assert await admit_in(database, "c25", "j26", sats(2), now=NOW + 86_400.0) == Run(Basis.TRIAL)


async def test_a_second_trial_needs_a_second_key(database):
    await admit_in(database, "aa", "j1", sats(2))
    assert await admit_in(database, "aa", "j2", sats(2)) == AskTopUp(sats(4))
    async with database.transaction() as tx:
        await charged(tx, "j1", sats(2))
    assert await admit_in(database, "aa", "j3", sats(2)) == AskTopUp(sats(4))


async def test_a_customer_that_is_ahead_of_us_starts_a_new_epoch_with_running_totals(database):
    await topped_up(database, "aa", sats(10))
    await admit_in(database, "aa", "j1", sats(4))
    async with database.transaction() as tx:
        first = await charged(tx, "j1", sats(4))
        seen = AccountSeen(first.epoch, 9, sats(9))
        assert await account_store.acknowledge(tx, "aa", seen, NOW) is Agreement.AHEAD
        assert await account_store.acknowledge(tx, "aa", seen, NOW) is Agreement.OTHER_EPOCH
    await admit_in(database, "aa", "j2", sats(4))
    async with database.transaction() as tx:
        second = await charged(tx, "j2", sats(1))
    assert second.epoch != first.epoch
    assert (second.seq, second.charged_total, second.paid_total) == (1, 5_000, 10_000)
    assert audit.examine(await audit.collect(database)) == []


async def test_a_job_that_was_never_admitted_is_not_charged(database):
    with pytest.raises(MoneyError):
        async with database.transaction() as tx:
            await charged(tx, "j1", sats(1))


async def test_a_transaction_that_fails_leaves_no_hold_and_no_charge(database):
    with pytest.raises(RuntimeError):
        async with database.transaction() as tx:
            await hold_store.admit(tx, [Admission("aa", "j1", sats(2), STRANGER, NOW, trial=TRIAL)])
            await charged(tx, "j1", sats(2))
            raise RuntimeError
    assert (await accounts.load(database, "aa")) == Account("")


async def test_money_held_and_tried_before_the_trees_were_fewer_is_held_and_tried_after(tmp_path):
    path = tmp_path / "old.db"
    old = await Database.open(path, [Schema(MONEY.room, MONEY.migrations[:2])])
    async with old.transaction() as tx:
        for customer in ("aa", "bb", "cc"):
            await tx.execute("INSERT INTO money_account VALUES (?, ?, ?)", (customer, EPOCH, NOW))
        for row in (
            ("j1", "aa", "trial", 2_000, "charged", NOW),
            ("j2", "aa", "credit", 3_000, "held", NOW),
            ("j3", "bb", "trial", 1_000, "released", NOW),
        ):
            await tx.execute("INSERT INTO money_hold VALUES (?, ?, ?, ?, ?, ?)", row)
        await tx.execute("INSERT INTO money_receipt VALUES (1, 'aa', ?, 1, 'j1', 1500, 1500, 0, ?)", (EPOCH, NOW))
        await tx.execute("INSERT INTO money_mirror VALUES ('pp', ?, '', 4, 700, 0, 0, 0, NULL)", (EPOCH,))
    await old.close()
    database = await Database.open(path, [MONEY])
    known = await accounts.load(database, "aa")
    assert (known.epoch, known.seq, known.charged_total, known.held) == (EPOCH, 1, 1_500, 3_000)
    assert known.trial_used
    assert not (await accounts.load(database, "bb")).trial_used
    assert await hold_store.trial_left(database, TRIAL, NOW) == TRIAL.per_day - 2_000
    async with database.transaction() as tx:
        assert await charged(tx, "j1", sats(1)) == AccountReceipt(EPOCH, 1, 1_500, Msat(1_500), ZERO)
        assert (await charged(tx, "j2", sats(3))).charged_total == 4_500
        with pytest.raises(MoneyError):
            await hold_store.admit(tx, [Admission("bb", "j3", sats(1), STRANGER, NOW, trial=TRIAL)])
    mirror = await mirror_store.load(database, "pp")
    assert (mirror.epoch, mirror.seq, mirror.charged_total) == (EPOCH, 4, 700)
    await database.close()


async def test_trials_that_were_given_while_the_date_was_a_year_ahead_use_up_those_of_one_day_only(database):
    a_year_on = NOW + 365 * 86_400.0
    async with database.transaction() as tx:
        asked = Admission("aa", "j1", sats(2), STRANGER, a_year_on, trial=TRIAL)
        assert await hold_store.admit(tx, [asked]) == [Run(Basis.TRIAL)]
    assert await hold_store.trial_left(database, TRIAL, a_year_on) == TRIAL.per_day - 2_000
    assert await hold_store.trial_left(database, TRIAL, NOW) == TRIAL.per_day


async def test_a_trial_without_a_daily_limit_is_given_to_every_stranger(database):
    trial = Trial(per_day=None)
    for number in range(30):
        async with database.transaction() as tx:
            asked = Admission(f"c{number}", f"j{number}", sats(2), STRANGER, NOW, trial=trial)
            assert await hold_store.admit(tx, [asked]) == [Run(Basis.TRIAL)]


def test_a_metered_job_that_failed_gives_back_nothing_of_what_others_hold():
    account = decider.hold(Account("", paid_total=sats(5)), sats(2), Basis.PREPAID)
    assert decider.release(decider.hold(account, sats(1), Basis.METERED), sats(1), Basis.METERED) == account


# --- many jobs at once ----------------------------------------------------------------------------------------------


async def done_in_steps(folder, wanted, amounts, size):
    """What is decided, signed and written when so many jobs at once are admitted, and later charged."""
    database = await open_database(folder)
    try:
        await topped_up(database, "rich", sats(6))
        decisions, receipts = [], []
        for at in range(0, len(wanted), size):
            async with database.transaction() as tx:
                decisions += await hold_store.admit(tx, wanted[at : at + size])
        held = {each.job: each.quote for each, was in zip(wanted, decisions, strict=True) if isinstance(was, Run)}
        done = [Done(job, min(amounts[job], quote), NOW + 1.0) for job, quote in held.items()]
        for at in range(0, len(done), size):
            async with database.transaction() as tx:
                receipts += await account_store.charge(tx, done[at : at + size])
        assert audit.examine(await audit.collect(database)) == []
        tables = {}
        for table in ("money_account", "money_hold", "money_receipt", "money_ledger"):
            # Epochs are random.
            rows = [
                {**dict(row), "epoch": ""} for row in await database.fetch_all(f"SELECT * FROM {table} ORDER BY 1")
            ]
            tables[table] = rows
        return decisions, [replace(receipt, epoch="") for receipt in receipts], tables
    finally:
        await database.close()


# Of 50 sat a day for strangers, so that it runs out; and of a few customers, so that they meet themselves.
admissions = st.builds(
    lambda customer, quote, terms, wish, day: (customer, Msat(quote), terms, wish, float(NOW + 86_400 * day)),
    st.sampled_from(["rich", "poor", *(f"c{number}" for number in range(8))]),
    st.integers(0, 3_000),
    st.sampled_from([STRANGER, STRANGER, Terms(), Terms(credit=sats(4)), TRUSTED]),
    st.none() | st.integers(1, 9_000).map(Msat),
    st.integers(0, 1),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(admissions, min_size=1, max_size=24), st.integers(2, 12), st.randoms(use_true_random=False))
def test_many_jobs_at_once_are_decided_and_charged_as_they_are_one_by_one(wanted, size, rng):
    trial = Trial(per_day=sats(6))
    jobs = [
        Admission(customer, f"j{number}", quote, terms, now, wish, trial)
        for number, (customer, quote, terms, wish, now) in enumerate(wanted)
    ]
    amounts = {each.job: Msat(rng.randint(0, int(each.quote))) for each in jobs}

    async def both():
        with TemporaryDirectory() as one, TemporaryDirectory() as many:
            return await done_in_steps(Path(one), jobs, amounts, 1), await done_in_steps(
                Path(many), jobs, amounts, size
            )

    alone, together = asyncio.run(both())
    assert together == alone


async def test_jobs_of_one_customer_that_are_admitted_at_once_see_each_others_holds(database):
    await topped_up(database, "aa", sats(5))
    async with database.transaction() as tx:
        decisions = await hold_store.admit(
            tx, [Admission("aa", f"j{number}", sats(2), Terms(), NOW) for number in range(3)]
        )
    assert decisions == [Run(Basis.PREPAID), Run(Basis.PREPAID), AskTopUp(sats(1))]


async def test_a_job_named_twice_at_once_is_neither_admitted_nor_charged(database):
    for attempt in (1, 2):
        with pytest.raises(MoneyError):
            async with database.transaction() as tx:
                await hold_store.admit(tx, [Admission("aa", "j1", sats(1), STRANGER, NOW, trial=TRIAL)] * attempt)
                await account_store.charge(tx, [Done("j1", sats(1), NOW)] * 2)
    assert await accounts.load(database, "aa") == Account("")


async def test_one_that_was_charged_before_gets_its_receipt_among_new_ones(database):
    await topped_up(database, "aa", sats(9))
    for job in ("j1", "j2"):
        await admit_in(database, "aa", job, sats(2))
    async with database.transaction() as tx:
        first = await charged(tx, "j1", sats(1))
        again, second = await account_store.charge(tx, [Done("j1", sats(2), NOW), Done("j2", sats(2), NOW)])
    assert again == first
    assert (second.seq, second.charged_total) == (2, 3_000)
