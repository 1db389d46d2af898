"""The ledger in SQLite. Writing takes the caller's transaction, so that money and its cause are one step."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pylon.errors import MoneyError
from pylon.money.books.ledger import Entry, Kind, Sums, is_debit_account
from pylon.money.msat import Msat
from pylon.store.database import Row, Transaction, Values


class Reader(Protocol):
    """A `Database` (last committed state) or a `Transaction` (its own view)."""

    async def fetch_all(self, sql: str, values: Values = ()) -> list[Row]: ...

    async def fetch_one(self, sql: str, values: Values = ()) -> Row | None: ...


async def book(tx: Transaction, entries: Iterable[Entry]) -> int:
    """Writes entries; how many were new. One that is there already, of the same amount, is left alone.

    Raises `MoneyError` when an entry of the same kind and reference says something else.
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
    """What an account's entries add up to, in msat, on its own side."""
    row = await reader.fetch_one(
        "SELECT coalesce(sum(debit) - sum(credit), 0) FROM money_sum WHERE account = ?", (account,)
    )
    raised = int(row[0]) if row else 0
    return raised if is_debit_account(account) else -raised


async def balances(reader: Reader) -> dict[str, int]:
    """The balance of every account, in msat, each on its own side."""
    rows = await reader.fetch_all(
        "SELECT account, sum(debit) - sum(credit) FROM money_sum GROUP BY account ORDER BY account"
    )
    return {row[0]: int(row[1]) if is_debit_account(row[0]) else -int(row[1]) for row in rows}


async def sums(reader: Reader) -> Sums:
    """What the database keeps beside the entries of each account: it has to be what they add up to."""
    rows = await reader.fetch_all("SELECT account, kind, debit, credit FROM money_sum")
    return {(row["account"], row["kind"]): (row["debit"], row["credit"]) for row in rows}


async def entries(reader: Reader, *, since: float = 0.0, kinds: Sequence[Kind] = tuple(Kind)) -> list[Entry]:
    """Entries in the order in which they were booked. `since` is Unix seconds."""
    marks = ",".join("?" * len(kinds))
    values: list[Any] = [since, *(kind.value for kind in kinds)]
    rows = await reader.fetch_all(
        f"SELECT at, kind, reference, debit, credit, msat FROM money_ledger"  # noqa: S608 - marks only
        f" WHERE at >= ? AND kind IN ({marks}) ORDER BY id",
        values,
    )
    return [Entry(r["at"], Kind(r["kind"]), r["reference"], r["debit"], r["credit"], Msat(r["msat"])) for r in rows]
