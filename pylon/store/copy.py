"""A copy of a database as it is at one moment, made beside whoever writes it.

From another process on purpose: it needs no answer of the one that has the file open, works as well where that one
hangs or none runs, and takes no turn of its event loop. All pages are of one state, since the copy is made inside of
one read transaction: in a write-ahead log that stops no writer, but the log grows until it ends. Without it SQLite
would begin again after each commit of the others (https://sqlite.org/c3ref/backup_finish.html).
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pylon.errors import SetupError
from pylon.files import flush_to_disk
from pylon.store.faults import cannot_be_opened, is_damage, named
from pylon.store.label import need_beginning
from pylon.store.look import check_pages, check_self, is_only_begun, opened_to_read
from pylon.store.marks import COPIED_AT, COPIED_TO, where

# A megabyte, a page being four kilobytes.
_PAGES = 256
_PATIENCE_S = 10.0

type Told = Callable[[int, int], None]


def copy_database(
    source: Path, target: Path, *, label: str, at: float, told: Told, kept_in: Path | None = None
) -> float | None:
    """Writes `target` (0600), which is not there yet, and reads it again; when its books are of, once it is on disk.

    That is `at`, or the earlier moment of a source that is a copy itself. Where the first start of the source was cut
    off before the first table there is nothing to copy: no `target` is made.

    `at` (Unix seconds) is written into it, and the folder that it is `kept_in`: whoever opens it finds that it is a
    copy (`marks`), and whether it is where it was made (`look`). `told` hears after every megabyte how many bytes are
    copied, and of how many. Raises `SetupError` for a source that is damaged or not ours, `sqlite3.Error` where it
    cannot be read or its copy written.
    """
    try:
        with _books(source, target.parent) as books:
            if is_only_begun(books, source):
                return None
            before = check_self(books, source, (), label)
            at = at if before is None else before
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(_opened(target)) as copy:
                _copy(books, copy, told)
                # A page that is damaged is copied as it is.
                check_pages(copy, source)
                _mark(copy, at, kept_in)
    except sqlite3.Error as error:
        if is_damage(error):
            raise cannot_be_opened(source, error) from error
        named(error, target if error.sqlite_errorcode == sqlite3.SQLITE_FULL else source)
        raise
    with target.open("rb") as stream:
        flush_to_disk(stream.fileno())
    return at


def _copy(books: sqlite3.Connection, copy: sqlite3.Connection, told: Told) -> None:
    books.execute("BEGIN")
    # It begins with the first thing that is read.
    books.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    size = books.execute("PRAGMA page_size").fetchone()[0]
    books.backup(copy, pages=_PAGES, progress=lambda _, left, pages: told((pages - left) * size, pages * size))
    books.execute("COMMIT")


def _mark(copy: sqlite3.Connection, at: float, kept_in: Path | None) -> None:
    marks = {COPIED_AT: repr(at)} | ({} if kept_in is None else {COPIED_TO: where(kept_in)})
    copy.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(marks.items()))


@contextmanager
def _books(path: Path, room: Path) -> Iterator[sqlite3.Connection]:
    """The source, open, also on a disk that cannot be written, as a snapshot's; what that takes is made in `room`."""
    if not path.exists():
        raise SetupError(f"{path} does not exist")
    if not path.stat().st_size:
        # To write, SQLite would throw away the log that is beside it.
        need_beginning(path)
    log, index = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))
    had_log = log.exists()
    if _can_be_written(path.parent):
        with closing(_opened(path)) as books:
            yield books
    elif had_log and not index.exists():
        # SQLite reads no log without its index, which it would make beside it.
        with TemporaryDirectory(dir=room) as folder:
            for each in (path, log):
                shutil.copyfile(each, Path(folder) / each.name)
            with closing(_opened(Path(folder) / path.name)) as books:
                yield books
    else:
        with closing(opened_to_read(path)) as books:
            yield books
        if log.exists() and not had_log:
            # Without one it is read without a lock, and what is read-only here may be written from elsewhere.
            raise SetupError(f"another program started to write {path} while it was copied", hint="Try again.")


def _can_be_written(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_PATIENCE_S)
