"""What must be on disk before a request goes out: rows of one database, which get there in one step or not at all."""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

from pylon.records import record
from pylon.store.database import Transaction
from pylon.store.group import GroupCommit


@record
class Row:
    """A statement that writes one, and what commits it."""

    group: GroupCommit
    sql: str
    values: tuple[Any, ...]


def written(rows: Sequence[Row]) -> Awaitable[object]:
    """To be waited for: they are on disk then. Raises what SQLite raises; then none of them is."""
    if len(rows) == 1:
        return rows[0].group.execute(rows[0].sql, rows[0].values)
    return rows[0].group.submit(partial(_write, rows))


async def _write(rows: Sequence[Row], tx: Transaction) -> None:
    for row in rows:
        await tx.execute(row.sql, row.values)
