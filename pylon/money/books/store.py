"""The ledger in SQLite. Writing takes the caller's transaction, so that money and its cause are written together."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pylon.errors import MoneyError
from pylon.money.books.ledger import Entry, Kind, Sums, is_debit_account
from pylon.money.msat import Msat
from pylon.store.database import Row, Transaction, Values


class Reader(Protocol):
    """What can be queried: a `Database` (the last committed state) or a `Transaction` (its own view)."""

    async def fetch_all(self, sql: str, values: Values = ()) -> list[Row]: ...

    async def fetch_one(self, sql: str, values: Values = ()) -> Row | None: ...


async def book(tx: Transaction, entries: Iterable[Entry]) -> int:
    """Writes entries and returns how many were new. An entry that is there already is left alone.

    Raises `MoneyError` when an entry of the same kind and reference has other accounts or another amount.
    """
    entries = tuple(entries)
    written = await tx.execute_many(
        "INSERT INTO money_ledger (at, kind, reference, debit, credit, msat) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (kind, reference) DO NOTHING",
        [
            (entry.at, entry.kind.value, entry.reference, entry.debit, entry.credit, int(entry.amount))
            for entry in entries
        ],
    )
    if written == len(entries):
        return written
    for entry in entries:
        row = await tx.fetch_one(
            "SELECT debit, credit, msat FROM money_ledger WHERE kind = ? AND reference = ?",
            (entry.kind.value, entry.reference),
        )
        if row is None or tuple(row) != (entry.debit, entry.credit, int(entry.amount)):
            raise MoneyError(f"the ledger already holds another {entry.kind.value} for {entry.reference}")
    return written


async def balance(reader: Reader, account: str) -> int:
    """The balance of an account, in msat, with the sign that `ledger.balances` has."""
    [(raised,)] = await reader.fetch_all(
        "SELECT coalesce(sum(debit) - sum(credit), 0) FROM money_sum WHERE account = ?", (account,)
    )
    return int(raised) if is_debit_account(account) else -int(raised)


async def balances(reader: Reader) -> dict[str, int]:
    """The balance of every account, in msat, with the sign that `ledger.balances` has."""
    rows = await reader.fetch_all(
        "SELECT account, sum(debit) - sum(credit) FROM money_sum GROUP BY account ORDER BY account"
    )
    return {row[0]: int(row[1]) if is_debit_account(row[0]) else -int(row[1]) for row in rows}


async def sums(reader: Reader) -> Sums:
    """The sums that triggers keep of each account's entries; an audit compares them with the entries."""
    rows = await reader.fetch_all("SELECT account, kind, debit, credit FROM money_sum")
    return {(row["account"], row["kind"]): (row["debit"], row["credit"]) for row in rows}


async def entries(reader: Reader, *, since: float = 0.0, kinds: Sequence[Kind] = tuple(Kind)) -> list[Entry]:
    """Entries of these kinds since `since` (Unix seconds), in the order in which they were booked."""
    marks = ",".join("?" * len(kinds))
    values: list[Any] = [since, *(kind.value for kind in kinds)]
    rows = await reader.fetch_all(
        f"SELECT at, kind, reference, debit, credit, msat FROM money_ledger"  # noqa: S608 - marks only
        f" WHERE at >= ? AND kind IN ({marks}) ORDER BY id",
        values,
    )
    return [Entry(r["at"], Kind(r["kind"]), r["reference"], r["debit"], r["credit"], Msat(r["msat"])) for r in rows]
