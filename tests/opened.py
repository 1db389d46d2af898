"""The database of a node as tests open it: with the group commit that its writes go through."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pylon.store.database import Database, Schema
from pylon.store.group import GroupCommit


@asynccontextmanager
async def opened_database(
    path: Path, *schemas: Schema, label: str = ""
) -> AsyncIterator[tuple[Database, GroupCommit]]:
    """Opens the file, or creates it. At the end all that waits is written before it is closed."""
    database = await Database.open(path, schemas, label=label)
    group = GroupCommit(database)
    group.start()
    try:
        yield database, group
    finally:
        await group.close()
        await database.close()
