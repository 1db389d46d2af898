"""Looking into a database that nobody has open: is it whole, is it ours. Nothing of it is changed."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError
from pylon.store.database import Schema
from pylon.store.faults import cannot_be_opened, damaged
from pylon.store.label import check_label, check_version, need_beginning
from pylon.store.marks import COPIED_AT, COPIED_TO, where

# An interruption that comes between two statements is lost.
_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Looked:
    """`whole` is False where the time was not enough to look at all of it. `copied_at` (Unix seconds) is None in what
    is no copy, or was begun with since."""

    size: int
    whole: bool
    copied_at: float | None = None


def look_into(path: Path, schemas: Iterable[Schema], *, label: str, within_s: float) -> Looked | None:
    """Reads every page, for so many seconds at the most; None where there is no file.

    The size is 0 where the first start was cut off before the first table. Raises `SetupError` for damage, and for
    what `Database.open` would not open.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", hint="Check its owner and folder.") from error
    try:
        with closing(opened_to_read(path)) as books:
            if is_only_begun(books, path):
                return Looked(0, whole=True)
            copied_at = check_self(books, path, schemas, label)
            if size % books.execute("PRAGMA page_size").fetchone()[0]:
                # SQLite takes what is missing of a page for zeros.
                raise damaged(path, "its last page is cut off")
            whole = check_pages(books, path, within_s)
    except sqlite3.Error as error:
        raise cannot_be_opened(path, error) from error
    return Looked(size, whole, copied_at)


def check_in_use(path: Path) -> None:
    """The same beside whoever has the database open, on a connection of its own, for as long as it takes.

    Raises `SetupError` for damage.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as books:
            check_pages(books, path)
    except sqlite3.Error as error:
        raise cannot_be_opened(path, error) from error


def is_copied_to(path: Path, folder: Path) -> bool:
    """Whether it is a copy that nobody has begun with, and `folder` the one that it was made in (`copy_database`)."""
    try:
        with closing(opened_to_read(path)) as books:
            row = books.execute("SELECT value FROM meta WHERE name = ?", (COPIED_TO,)).fetchone()
    except sqlite3.Error:
        # None that could be begun with.
        return False
    return row is not None and row[0] == where(folder)


def opened_to_read(path: Path) -> sqlite3.Connection:
    """A file that nobody writes, opened so that none is made beside it. Raises `sqlite3.Error`."""
    # A process that was killed leaves its log, and what that says counts. Without one SQLite would make an empty one.
    # Of an empty file it throws the log away, whatever the mode.
    has_log = path.with_name(f"{path.name}-wal").exists() and path.exists() and path.stat().st_size > 0
    how = "mode=ro" if has_log else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, check_same_thread=False)


def is_only_begun(books: sqlite3.Connection, path: Path) -> bool:
    """Whether its first start was cut off before the first table. Raises `SetupError` for what held one once."""
    application_id = books.execute("PRAGMA application_id").fetchone()[0]
    tables = books.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application_id or tables:
        return False
    need_beginning(path)
    return True


def check_self(books: sqlite3.Connection, path: Path, schemas: Iterable[Schema], label: str) -> float | None:
    """When it was copied, if it was. Raises `SetupError` for what is not ours or too new, `sqlite3.Error`."""
    application_id = books.execute("PRAGMA application_id").fetchone()[0]
    tables = {row[0] for row in books.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    said = dict(books.execute("SELECT name, value FROM meta").fetchall()) if "meta" in tables else {}
    check_label(path, application_id, said.get("label"), label)
    versions = dict(books.execute("SELECT room, version FROM schema_version").fetchall())
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
        # It ends with the first fault that it meets: until here there was none.
        return False
    if found != "ok":
        # What it says goes over two lines.
        raise damaged(path, " ".join(found.replace("*** in database main ***", "").split()))
    return True


@contextmanager
def _interrupted(connection: sqlite3.Connection, after_s: float | None) -> Iterator[None]:
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
