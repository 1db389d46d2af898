"""Reads a database without changing it: whether it is undamaged, whether it is ours, and whether it is a backup."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError
from pylon.store.database import Schema
from pylon.store.faults import cannot_be_opened, damaged
from pylon.store.label import check_label, check_version, is_only_begun
from pylon.store.marks import COPIED_AT, COPIED_TO, where

# SQLite loses an interruption that comes before the statement has begun, so it is repeated.
_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Looked:
    """What `look_into` found in a database without damage.

    `size` is in bytes. `whole` is False where the time did not suffice to read all of it. `copied_at` (Unix seconds)
    says when it was copied, and is None for what is no copy, or one that a node has begun with.
    """

    size: int
    whole: bool
    copied_at: float | None = None


def look_into(path: Path, schemas: Iterable[Schema], *, label: str, within_s: float) -> Looked | None:
    """Reads every page of a database that nobody has open, for `within_s` seconds at most; None if there is no file.

    The size is 0 where the first start was cut off before the first table. Raises `SetupError` for damage, and for
    what `Database.open` would refuse.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", hint="Check its owner and folder.") from error
    try:
        with closing(opened_to_read(path)) as connection:
            if is_only_begun(connection, path):
                return Looked(0, whole=True)
            copied_at = check_self(connection, path, schemas, label)
            if size % connection.execute("PRAGMA page_size").fetchone()[0]:
                # SQLite takes what is missing of a page for zeros.
                raise damaged(path, "its last page is cut off")
            whole = check_pages(connection, path, within_s)
    except sqlite3.Error as error:
        raise cannot_be_opened(path, error) from error
    return Looked(size, whole, copied_at)


def check_in_use(path: Path) -> None:
    """Reads every page of a database that is in use, on a connection of its own, for as long as it takes.

    Raises `SetupError` for damage.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            check_pages(connection, path)
    except sqlite3.Error as error:
        raise cannot_be_opened(path, error) from error


def is_copied_to(path: Path, folder: Path) -> bool:
    """Whether the database is a copy that no node has begun with, and still lies in the folder it was copied to."""
    try:
        with closing(opened_to_read(path)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = ?", (COPIED_TO,)).fetchone()
    except sqlite3.Error:
        # No node could begin with that either.
        return False
    return row is not None and row[0] == where(folder)


def opened_to_read(path: Path) -> sqlite3.Connection:
    """Opens a database that nobody writes, without creating files beside it. Raises `sqlite3.Error`."""
    # A killed process leaves its write-ahead log, which belongs to the data. Where there is none, `immutable` keeps
    # SQLite from creating one. Beside an empty database it would delete the log, whatever the mode.
    has_log = path.with_name(f"{path.name}-wal").exists() and path.exists() and path.stat().st_size > 0
    how = "mode=ro" if has_log else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, check_same_thread=False)


def check_self(connection: sqlite3.Connection, path: Path, schemas: Iterable[Schema], label: str) -> float | None:
    """Checks whose database it is, and returns when it was copied (Unix seconds), None if it is no copy.

    Raises `SetupError` if it is not ours, of another label, or newer than `schemas`; `sqlite3.Error`.
    """
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    said = dict(connection.execute("SELECT name, value FROM meta").fetchall()) if "meta" in tables else {}
    check_label(path, application_id, said.get("label"), label)
    versions = dict(connection.execute("SELECT room, version FROM schema_version").fetchall())
    for schema in schemas:
        if schema.room in versions:
            check_version(path, schema.room, versions[schema.room], len(schema.migrations))
    return float(said[COPIED_AT]) if COPIED_AT in said else None


def check_pages(connection: sqlite3.Connection, path: Path, within_s: float | None = None) -> bool:
    """Reads every page, and compares every index with its table; whether there was time for all of it.

    Raises `SetupError` for damage, `sqlite3.Error`.
    """
    try:
        with _interrupted(connection, within_s):
            # Not `quick_check`: that compares no index with its table, and what an index lacks no query finds.
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        # The check ends with the first fault that it meets: up to here there was none.
        return False
    if found != "ok":
        # SQLite's message has two lines.
        raise damaged(path, " ".join(found.replace("*** in database main ***", "").split()))
    return True


@contextmanager
def _interrupted(connection: sqlite3.Connection, after_s: float | None) -> Iterator[None]:
    """Interrupts what runs on the connection in this block after so many seconds; never if None."""
    if after_s is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        wait = after_s
        while not done.wait(wait):
            connection.interrupt()
            wait = _AGAIN_S

    watching = threading.Thread(target=watch, name="deadline", daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
