"""Accounts of customers as tests look at them."""

from pylon.money.accounts.account import Account
from pylon.money.accounts.receipt import new_epoch
from pylon.money.accounts.store import ACCOUNT, LAST, read_account
from pylon.money.books.store import Reader
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
