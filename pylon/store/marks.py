"""The marks in a copied database: when it was copied, into which folder, and when a node first began with the copy.

`copy` writes the first two, and the first start of the copy (`node.restored`) replaces them by the third.
"""

from pathlib import Path

from pylon.store.database import Database, Transaction

# Rows of its table `meta`. Times are Unix seconds; the folder is a URI, since a path need not be valid text.
COPIED_AT, COPIED_TO, BEGUN_AT = "copied_at", "copied_to", "begun_at"


async def copied_at(database: Database) -> float | None:
    """When a copy was made (Unix seconds); None if the database is no copy, or a node has begun with it since."""
    return await _mark(database, COPIED_AT)


def where(folder: Path) -> str:
    """The value of `COPIED_TO` for this folder, with symbolic links resolved. The folder need not exist."""
    return folder.resolve().as_uri()


async def begun_at(database: Database | Transaction) -> float | None:
    """When a node first began with this copy (Unix seconds); None if the database was never restored from one."""
    return await _mark(database, BEGUN_AT)


async def begin(tx: Transaction, now: float) -> None:
    """Marks a copy as begun with: from now on it is an ordinary database."""
    await tx.execute("DELETE FROM meta WHERE name IN (?, ?)", (COPIED_AT, COPIED_TO))
    await tx.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (BEGUN_AT, repr(now))
    )


async def _mark(database: Database | Transaction, name: str) -> float | None:
    row = await database.fetch_one("SELECT value FROM meta WHERE name = ?", (name,))
    return None if row is None else float(row["value"])
