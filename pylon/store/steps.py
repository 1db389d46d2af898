"""Functions that work on a SQLite connection: set it up, begin, commit, checkpoint. They run on any thread."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from pylon import log
from pylon.store.thread import Work

_log = log.get("store")

# Pages of the write-ahead log before a checkpoint, and KiB of pages that a connection caches: four times SQLite's
# defaults. A job's rows are deleted when it is done, so copying them into the file early is mostly wasted.
_LOG_PAGES, _CACHE_KIB = 4_000, 8_000
# Deleted rows are overwritten where their page is written anyway. Some distributions build SQLite so that it also
# fills every freed page with zeros, which would cost a write for each request that a provider deletes.
_SECURE_DELETE = "FAST"
# Changed rows between two checkpoints, where commits on the event loop's thread leave checkpointing to us.
LOG_CHANGES = 2_000
_PATIENCE_MS = 10_000

type Row = sqlite3.Row
# In order for `?`, by name for `:name`. Not `?1`: sqlite3 takes that for a name as well, which no order answers.
type Values = Sequence[Any] | Mapping[str, Any]


def set_up(connection: sqlite3.Connection, durability: str) -> None:
    """Sets the pragmas of a new connection. `durability` is the value of `synchronous`."""
    for pragma in (
        "journal_mode = WAL",
        f"synchronous = {durability}",
        # Changes something on macOS alone: without it what `synchronous` flushes stays in the cache of the disk.
        "fullfsync = ON",
        "foreign_keys = ON",
        f"busy_timeout = {_PATIENCE_MS}",
        f"wal_autocheckpoint = {_LOG_PAGES if durability == 'FULL' else 0}",
        f"cache_size = -{_CACHE_KIB}",
        f"secure_delete = {_SECURE_DELETE}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")


def try_begin(connection: sqlite3.Connection) -> bool:
    """Begins a write transaction unless another process holds the write lock; whether it did."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        begin(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    return True


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copies the write-ahead log into the file, as far as no reader is in the way. A failure is logged."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error as error:
        # What was committed is in the log all the same.
        _log.warning("a database's write-ahead log could not be checkpointed", error=str(error))


def transact[T](connection: sqlite3.Connection, work: Work[T]) -> T:
    """Runs `work` in a write transaction of its own, which is rolled back when it raises."""
    begin(connection)
    try:
        value = work(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return value


def rows(connection: sqlite3.Connection, sql: str, values: Values) -> list[Row]:
    """All rows of one query."""
    return connection.execute(sql, values).fetchall()


def statements(script: str) -> list[str]:
    """Splits a migration into its statements.

    `executescript` would commit the open transaction first, and could leave a migration half done.
    """
    statements: list[str] = []
    pending = ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip(" ;\n"):
                statements.append(pending.strip())
            pending = ""
    return statements
