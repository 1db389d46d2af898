"""What stands in a database that was copied: when that was, and when it was begun with."""

from pylon.store.database import Database, Transaction

# Names in its table `meta`; the values are Unix seconds.
COPIED_AT, BEGUN_AT = "copied_at", "begun_at"


async def copied_at(database: Database) -> float | None:
    """When this was copied, of a copy that nobody has begun with; else None."""
    return await _mark(database, COPIED_AT)


async def begun_at(database: Database) -> float | None:
    """When the last copy that this comes from was begun with; None in what is no copy."""
    return await _mark(database, BEGUN_AT)


async def begin(tx: Transaction, now: float) -> None:
    """From now on it is no copy any more."""
    await tx.execute("DELETE FROM meta WHERE name = ?", (COPIED_AT,))
    await tx.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (BEGUN_AT, repr(now))
    )


async def _mark(database: Database, name: str) -> float | None:
    row = await database.fetch_one("SELECT value FROM meta WHERE name = ?", (name,))
    return None if row is None else float(row["value"])
