"""One SQLite file: a write-ahead log, a connection that writes, a connection that reads, and migrations by room.

A room is a part of the program with tables of its own (provider, money, swarm). All rooms share one file, so that one
transaction can hold both a step of a job and its money. Each room has a `Schema`, whose migrations are counted
separately.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pylon.store.faults import cannot_be_opened, named
from pylon.store.label import (
    APPLICATION_ID,
    beginning,
    check_label,
    check_version,
    is_only_begun,
    need_beginning,
)
from pylon.store.steps import (
    LOG_CHANGES,
    begin,
    checkpoint,
    rows,
    set_up,
    statements,
    transact,
    try_begin,
)
from pylon.store.steps import Row as Row
from pylon.store.steps import Values as Values
from pylon.store.thread import SqliteThread, Work


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one room. `migrations[n]` is the SQL that leads from version n to n + 1.

    Migrations are only ever appended: databases in use have run the earlier ones.
    """

    room: str
    migrations: tuple[str, ...]


class Transaction:
    """A write transaction, as `Database.transaction` gives it: statements that commit together or not at all."""

    def __init__(self, writer: SqliteThread) -> None:
        self._writer = writer

    async def execute(self, sql: str, values: Values = ()) -> int:
        """Runs one statement and returns the number of rows it changed."""
        return await self._writer.run(lambda connection: connection.execute(sql, values).rowcount)

    async def execute_many(self, sql: str, rows: Iterable[Values]) -> int:
        """Runs one statement for each row of values and returns the number of rows changed in all."""
        return await self._writer.run(lambda connection: connection.executemany(sql, rows).rowcount)

    async def fetch_all(self, sql: str, values: Values = ()) -> list[Row]:
        """The rows, as this transaction sees them."""
        return await self._writer.run(partial(rows, sql=sql, values=values))

    async def fetch_one(self, sql: str, values: Values = ()) -> Row | None:
        """The first row, as this transaction sees it."""
        rows = await self.fetch_all(sql, values)
        return rows[0] if rows else None


class TransactionHere(Transaction):
    """A transaction whose statements run on the event loop's own thread: its methods never suspend."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    async def execute(self, sql: str, values: Values = ()) -> int:
        return self.connection.execute(sql, values).rowcount

    async def execute_many(self, sql: str, rows: Iterable[Values]) -> int:
        return self.connection.executemany(sql, rows).rowcount

    async def fetch_all(self, sql: str, values: Values = ()) -> list[Row]:
        return rows(self.connection, sql, values)


class Database:
    """An open database. Reads see the last committed state, never a transaction that is still open.

    Every method that runs SQL raises `sqlite3.Error`.
    """

    def __init__(self, path: Path, writer: SqliteThread, reader: SqliteThread, *, flushes: bool) -> None:
        self.path = path
        # Whether each commit is flushed to the disk.
        self._flushes = flushes
        # How many rows the writer had changed when the write-ahead log was last checkpointed.
        self._changes_at_checkpoint = 0
        self._writer = writer
        self._reader = reader
        self._turn = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        path: Path,
        schemas: Iterable[Schema],
        *,
        label: str = "",
        durability: Literal["NORMAL", "FULL"] = "FULL",
    ) -> "Database":
        """Opens or creates the file (mode 0600) and brings its tables up to date.

        `label` is written into a new file and must equal the label of an existing one: a database of one network
        is never opened for another. With durability `NORMAL` a power failure may lose the last commits; a crash of
        the process never does. Raises `SetupError`, also for a file that exists and is empty.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _begin(path)
        writer = await _connect(path, durability)
        try:
            reader = await _connect(path, durability)
        except BaseException:
            await writer.close()
            raise
        database = cls(path, writer, reader, flushes=durability == "FULL")
        try:
            await database.write(partial(_claim, path=path, label=label))
            for schema in schemas:
                await database._migrate(schema)
            beginning(path).unlink(missing_ok=True)
        except sqlite3.DatabaseError as error:
            await database.close()
            raise cannot_be_opened(path, error) from error
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Closes both connections. Committed transactions stay."""
        async with self._turn:
            await self._reader.close()
            await self._writer.close()

    async def fetch_all(self, sql: str, values: Values = ()) -> list[Row]:
        """The rows of the last committed state."""
        return await self._reader.run(partial(rows, sql=sql, values=values))

    async def fetch_one(self, sql: str, values: Values = ()) -> Row | None:
        """The first row of the last committed state."""
        rows = await self.fetch_all(sql, values)
        return rows[0] if rows else None

    async def read[T](self, work: Work[T]) -> T:
        """Runs `work` on the reader's connection and thread and returns its result. `work` must not write."""
        return await self._reader.run(work)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A write transaction: committed when the block ends, rolled back when it raises. One runs at a time."""
        async with self._turn:
            try:
                await self._writer.run(begin)
                yield Transaction(self._writer)
                await self._writer.run(sqlite3.Connection.commit, at_once=True)
            except BaseException:
                # Neither a cancelled task nor a full disk may leave the connection inside a transaction.
                await self._writer.run(sqlite3.Connection.rollback)
                raise

    @asynccontextmanager
    async def transaction_here(self) -> AsyncIterator[TransactionHere]:
        """A write transaction for many small statements, which run on the event loop's own thread.

        On the writer's thread each statement would wait for the interpreter lock behind a busy event loop. Only what
        may take long is done there: beginning while another process writes, and flushing to the disk.
        """
        async with self._turn:
            try:
                if self._writer.is_busy or not try_begin(self._writer.connection):
                    await self._writer.run(begin)
                yield TransactionHere(self._writer.connection)
                if self._flushes:
                    await self._writer.run(sqlite3.Connection.commit, at_once=True)
                else:
                    await self._commit_here(self._writer.connection)
            except BaseException as error:
                if isinstance(error, sqlite3.Error):
                    named(error, self.path)
                await self._writer.run(sqlite3.Connection.rollback)
                raise

    async def _commit_here(self, connection: sqlite3.Connection) -> None:
        # Without a flush a commit takes no longer than a statement, and handing it to the thread longer than both.
        # Checkpoints flush, so those go to the thread.
        connection.commit()
        if connection.total_changes - self._changes_at_checkpoint >= LOG_CHANGES:
            self._changes_at_checkpoint = connection.total_changes
            await self._writer.run(checkpoint)

    async def write[T](self, work: Work[T]) -> T:
        """Runs `work` as one write transaction and returns its result once that is committed.

        The transaction is rolled back when `work` raises. `work` runs on the writer's thread and must not touch what
        belongs to the event loop. Cancelling the caller does not undo it.
        """
        async with self._turn:
            return await self._writer.run(partial(transact, work=work))

    async def _migrate(self, schema: Schema) -> None:
        row = await self.fetch_one("SELECT version FROM schema_version WHERE room = ?", (schema.room,))
        version = row[0] if row else 0
        if row:
            check_version(self.path, schema.room, version, len(schema.migrations))
        for number in range(version, len(schema.migrations)):
            async with self.transaction() as tx:
                for statement in statements(schema.migrations[number]):
                    await tx.execute(statement)
                await tx.execute(
                    "INSERT INTO schema_version VALUES (?, ?) ON CONFLICT DO UPDATE SET version = excluded.version",
                    (schema.room, number + 1),
                )


def _claim(connection: sqlite3.Connection, path: Path, label: str) -> None:
    """Writes into a new file whose database it is, and checks that of every other. Raises `SetupError`."""
    if is_only_begun(connection, path):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
        connection.execute("CREATE TABLE schema_version (room TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT")
        connection.execute("INSERT INTO meta VALUES ('label', ?)", (label,))
        return
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    # Another program's file need not have this table.
    ours = application_id == APPLICATION_ID
    row = connection.execute("SELECT value FROM meta WHERE name = 'label'").fetchone() if ours else None
    check_label(path, application_id, row["value"] if row else None, label)


async def _connect(path: Path, durability: str) -> SqliteThread:
    thread: SqliteThread | None = None
    try:
        thread = SqliteThread.open(path)
        await thread.run(partial(set_up, durability=durability))
    except sqlite3.DatabaseError as error:
        if thread is not None:
            await thread.close()
        raise cannot_be_opened(path, error) from error
    return thread


def _begin(path: Path) -> None:
    """Creates the file if there is none, and beside it a marker that stays until the first tables are written.

    The marker tells an empty file that a crash left from one that once held tables. Raises `SetupError` for the
    latter.
    """
    # The marker first: two processes may begin at once, and a file without its marker must have its tables.
    if not path.exists():
        beginning(path).touch(mode=0o600)
        path.touch(mode=0o600)
    elif path.stat().st_size == 0:
        need_beginning(path)
