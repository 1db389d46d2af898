"""What a job and a payment ask of the books takes no longer the more there ever were: counted, not timed."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pylon.money.accounts import holds, mirror_store
from pylon.money.accounts import store as account_store
from pylon.money.accounts.account import Terms, Trial
from pylon.money.accounts.holds import Admission
from pylon.money.accounts.mirror import Claim
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.accounts.store import Done
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.invoices import invoice as invoices
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.store import Issued
from pylon.money.limits import Spend
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import Order
from pylon.money.payments import store as payment_store
from pylon.money.states import InvoiceState, PaymentState
from pylon.store.database import Database, TransactionHere
from tests.money.craft import NOW, honest
from tests.money.fakes import open_database

THEM, EPOCH = "ab" * 32, "e" * 16
LONG_AGO = NOW - 30 * 86_400.0
FEW, MANY = 3, 300

type Work = Callable[[TransactionHere], Coroutine[Any, Any, object]]


async def with_history(folder, size: int) -> Database:
    """So much of everything, long ago: paid, failed for want of money, charged, invoiced and given up."""
    folder.mkdir()
    database = await open_database(folder)
    payments = [
        (f"{state}{n}", f"{state} job {n}", THEM, "", 5_000, 10, *rest, LONG_AGO + n, LONG_AGO + n)
        for n in range(size)
        for state, *rest in (
            ("settled", 3, "i", "y", LONG_AGO, "settled", "p", ""),
            ("failed", None, "i", "y", LONG_AGO, "failed", None, "insufficient_balance"),
        )
    ]
    issued = [
        (f"{state}{n}", f"{state} invoice {n}", THEM, 5_000, "i", LONG_AGO + n, LONG_AGO + n, state, LONG_AGO + n)
        for n in range(size)
        for state in ("settled", "expired")
    ]
    claims = [
        (THEM, EPOCH, n, f"asked {n}", 20, 10, 10 * n, size * 5_000, LONG_AGO, LONG_AGO) for n in range(1, size + 1)
    ]
    receipts = [(THEM, EPOCH, n, f"did {n}", 10, 10 * n, 5_000, LONG_AGO) for n in range(1, size + 1)]
    entries = [
        *(e for n in range(size) for e in ledger.topup_paid(LONG_AGO, THEM, f"settled{n}", Msat(5_000), Msat(3))),
        *(e for n in range(size) for e in ledger.work_received(LONG_AGO, THEM, f"{THEM}/{EPOCH}/{n + 1}", 10)),
        *(ledger.topup_received(LONG_AGO, THEM, f"settled{n}", Msat(5_000)) for n in range(size)),
        *(ledger.charged(LONG_AGO, THEM, f"did {n + 1}", Msat(10)) for n in range(size)),
    ]
    async with database.transaction() as tx:
        for table, rows in (("money_payment", payments), ("money_invoice", issued), ("money_claim", claims)):
            await tx.execute_many(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)
        await tx.execute_many(
            "INSERT INTO money_receipt (customer, epoch, seq, job, charge, charged_total, paid_total, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            receipts,
        )
        await tx.execute("INSERT INTO money_account VALUES (?, ?, ?, NULL, NULL)", (THEM, EPOCH, LONG_AGO))
        mirror = (THEM, EPOCH, "", size, 10 * size, size * 5_000, 0, 0, None, 0, 0, 0)
        await tx.execute(f"INSERT INTO money_mirror VALUES ({','.join('?' * len(mirror))})", mirror)
        await ledger_store.book(tx, entries)
    return database


async def steps_of(database: Database, work: Work) -> int:
    """How often SQLite's machine went round in it."""
    rounds = 0

    def go_on() -> int:
        nonlocal rounds
        rounds += 1
        return 0

    async with database.transaction_here() as tx:
        tx.connection.set_progress_handler(go_on, 1)
        try:
            await work(tx)
        finally:
            tx.connection.set_progress_handler(None, 1)
    return rounds


async def a_receipt(tx: TransactionHere) -> None:
    mirror = await mirror_store.load(tx, THEM)
    total = Msat(int(mirror.charged_total) + 10)
    receipt = AccountReceipt(EPOCH, mirror.seq + 1, 10, total, mirror.paid_seen)
    step = await mirror_store.observe(tx, THEM, Claim(receipt, "new", Msat(20), NOW, NOW))
    assert step.mirror.ended is None
    assert step.booked


async def a_payment(tx: TransactionHere) -> None:
    invoice = invoices.decode(honest(5))
    spend = Spend(Msat(5_000), Msat(10), "new", THEM, "")
    known = await payment_store.known(tx, invoice, Order("new", THEM, "me", Msat(1), Msat(1), ""), NOW)
    assert not known.hash_seen
    assert (await payment_store.used(tx, spend, NOW)).all
    payment = await payment_store.reserve(tx, invoice, spend, NOW)
    await payment_store.move(tx, payment.payment_hash, PaymentState.SENDING, "", NOW)
    assert await payment_store.settle(tx, payment.payment_hash, "p", ZERO, NOW)
    await ledger_store.book(tx, ledger.topup_paid(NOW, THEM, payment.payment_hash, payment.amount, Msat(3)))
    assert await payment_store.in_state(tx, PaymentState.UNKNOWN) == []
    await ledger_store.balances(tx)


async def a_job_of_a_customer(tx: TransactionHere) -> None:
    assert await holds.admit(tx, [Admission(THEM, "new", Msat(20), Terms(), NOW, trial=Trial())])
    assert await account_store.charge(tx, [Done("new", Msat(10), NOW)])


async def a_job_of_a_customer_that_starts_an_epoch(tx: TransactionHere) -> None:
    ahead = AccountSeen(EPOCH, 10**9, ZERO)
    assert await account_store.acknowledge(tx, THEM, ahead, NOW) is account_store.Agreement.AHEAD
    await a_job_of_a_customer(tx)


async def an_invoice(tx: TransactionHere) -> None:
    assert await invoice_store.has_paid(tx, THEM)
    assert await invoice_store.count_to_strangers(tx, since=NOW, until=NOW + 3_600) == 0
    assert await invoice_store.count_given_up(tx, THEM, since=NOW, until=NOW + 3_600) == 0
    issued = Issued("new", "new", THEM, Msat(5_000), "i", NOW, NOW + 600, InvoiceState.PENDING)
    await invoice_store.add(tx, issued)
    assert [one.payment_hash for one in await invoice_store.to_check(tx, ended_since=NOW)] == ["new"]
    await invoice_store.move(tx, issued, InvoiceState.SETTLED, NOW)
    await ledger_store.book(tx, [ledger.topup_received(NOW, THEM, "new", Msat(5_000))])


@pytest.mark.parametrize(
    "work", [a_receipt, a_payment, a_job_of_a_customer, a_job_of_a_customer_that_starts_an_epoch, an_invoice]
)
async def test_a_long_history_is_not_gone_through(tmp_path, work):
    counted = []
    for size in (FEW, MANY):
        database = await with_history(tmp_path / str(size), size)
        counted.append(await steps_of(database, work))
        await database.close()
    assert 0 < counted[1] <= counted[0]
