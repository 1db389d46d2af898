"""What is done on a SQLite connection, on whatever thread."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from pylon import log
from pylon.store.thread import Work

_log = log.get("store")

# Pages of the log before it is worked into the file, and KiB of pages that a connection keeps: four times what SQLite
# does by itself. What a job holds is gone again when it is done, so that copying it into the file is mostly in vain.
_LOG_PAGES, _CACHE_KIB = 4_000, 8_000
# What is deleted is overwritten where its page is written anyway. Distributions build SQLite so that it writes every
# page that becomes free, full of zeros: a provider frees each of its requests a moment after it wrote it.
_SECURE_DELETE = "FAST"
# The same in rows, where commits on the event loop's thread leave that work to us.
LOG_CHANGES = 2_000
_PATIENCE_MS = 10_000

type Row = sqlite3.Row
# In order for `?`, by name for `:name`. Not `?1`: sqlite3 takes that for a name as well, which no order answers.
type Values = Sequence[Any] | Mapping[str, Any]


def set_up(connection: sqlite3.Connection, durability: str) -> None:
    for pragma in (
        "journal_mode = WAL",
        f"synchronous = {durability}",
        # On macOS alone does this change anything: what `synchronous` flushes stays in the cache of the disk without.
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


def begun_at_once(connection: sqlite3.Connection) -> bool:
    """Whether nobody else writes just now."""
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


def work_in(connection: sqlite3.Connection) -> None:
    """Works the log into the file, as far as no reader is in the way; the next time will do the rest."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error as error:
        # What was committed is in the log all the same.
        _log.warning("a database's write-ahead log could not be checkpointed", error=str(error))


def transact[T](connection: sqlite3.Connection, work: Work[T]) -> T:
    begin(connection)
    try:
        value = work(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return value


def rows(connection: sqlite3.Connection, sql: str, values: Values) -> list[Row]:
    return connection.execute(sql, values).fetchall()


def statements(script: str) -> list[str]:
    # `executescript` would commit the open transaction first, so a migration could be left half done.
    statements: list[str] = []
    pending = ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip(" ;\n"):
                statements.append(pending.strip())
            pending = ""
    return statements
