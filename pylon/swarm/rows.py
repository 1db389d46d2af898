"""Rows that must be on disk before a request is published, written together in one transaction."""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

from pylon.records import record
from pylon.store.database import Transaction
from pylon.store.group import GroupCommit


@record
class Row:
    """An SQL statement that writes one row, its values, and the group commit that runs it."""

    group: GroupCommit
    sql: str
    values: tuple[Any, ...]


def written(rows: Sequence[Row]) -> Awaitable[object]:
    """Writes the rows; done when all are on disk. Raises what SQLite raises, and then none is."""
    if len(rows) == 1:
        return rows[0].group.execute(rows[0].sql, rows[0].values)
    return rows[0].group.submit(partial(_write, rows))


async def _write(rows: Sequence[Row], tx: Transaction) -> None:
    for row in rows:
        await tx.execute(row.sql, row.values)
