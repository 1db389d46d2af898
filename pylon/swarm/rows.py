"""Rows that must be on disk before a request is published, written together in one transaction."""

from collections import defaultdict
from collections.abc import Awaitable, Sequence
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
    return rows[0].group.submit_to(_write, rows)


async def _write(tx: Transaction, requests: list[Sequence[Row]]) -> list[None]:
    """Writes the rows of several requests, those of one table by one call."""
    values: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for rows in requests:
        for row in rows:
            values[row.sql].append(row.values)
    for sql, some in values.items():
        await tx.execute_many(sql, some)
    return [None] * len(requests)
