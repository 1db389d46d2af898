"""Accounts of customers as tests look at them, and what a provider may do to one that ours does not."""

from pylon.money import account as decider
from pylon.money import account_store, ledger
from pylon.money.account import Account
from pylon.money.account_store import ACCOUNT, LAST, read_account
from pylon.money.ledger_store import Reader, book
from pylon.money.msat import Msat
from pylon.money.receipt import AccountReceipt, new_epoch
from pylon.store.database import Transaction


async def load(reader: Reader, customer: str) -> Account:
    """The account of a customer; a new one (its epoch empty) when there was none."""
    row = await reader.fetch_one(f"SELECT {ACCOUNT} FROM money_account a {LAST} WHERE a.customer = ?", (customer,))
    return Account(epoch="") if row is None else read_account(row)


async def open_account(tx: Transaction, customer: str, now: float) -> None:
    """Begins the account of a customer that has asked for nothing."""
    await tx.execute(
        "INSERT INTO money_account (customer, epoch, opened_at) VALUES (?, ?, ?)", (customer, new_epoch(), now)
    )


async def reverse(tx: Transaction, job: str, now: float) -> list[AccountReceipt]:
    """Takes a charge back, as a provider may; all receipts of the job. One that was not charged is released."""
    before = await account_store.receipts(tx, job)
    if len(before) == 1:
        row = await tx.fetch_one("SELECT customer FROM money_receipt WHERE job = ?", (job,))
        assert row is not None
        customer, amount = row["customer"], Msat(before[0].charge_msat)
        _, receipt = decider.reverse(await load(tx, customer), amount)
        values = (customer, receipt.epoch, receipt.seq, job, receipt.charge_msat, int(receipt.charged_total))
        await tx.execute(
            "INSERT INTO money_receipt (customer, epoch, seq, job, charge, charged_total, paid_total, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, int(receipt.paid_total), now),
        )
        if amount:
            await book(tx, [ledger.charge_reversed(now, customer, job, amount)])
        return [*before, receipt]
    if not before:
        await account_store.release(tx, job)
    return before
