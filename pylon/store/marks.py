"""What stands in a database that was copied: when that was, into which folder, and when it was begun with."""

from pathlib import Path

from pylon.store.database import Database, Transaction

# Names in its table `meta`; the values are Unix seconds, and of the second a URI: a path need not be a text.
COPIED_AT, COPIED_TO, BEGUN_AT = "copied_at", "copied_to", "begun_at"


async def copied_at(database: Database) -> float | None:
    """When this was copied, of a copy that nobody has begun with; else None."""
    return await _mark(database, COPIED_AT)


def where(folder: Path) -> str:
    """A folder as it stands under `COPIED_TO`, by whatever links it was come to. It need not be there."""
    return folder.resolve().as_uri()


async def begun_at(database: Database | Transaction) -> float | None:
    """When the last copy that this comes from was begun with; None in what is no copy."""
    return await _mark(database, BEGUN_AT)


async def begin(tx: Transaction, now: float) -> None:
    """From now on it is no copy any more."""
    await tx.execute("DELETE FROM meta WHERE name IN (?, ?)", (COPIED_AT, COPIED_TO))
    await tx.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (BEGUN_AT, repr(now))
    )


async def _mark(database: Database | Transaction, name: str) -> float | None:
    row = await database.fetch_one("SELECT value FROM meta WHERE name = ?", (name,))
    return None if row is None else float(row["value"])
