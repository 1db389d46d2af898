"""A consistent copy of a database that may be in use (`pylon backup`).

It is made by a process of its own, which needs no answer from the node that has the file open: it works where that
node hangs or none runs, and takes no time of its event loop. The copy is made within one read transaction, so all
pages are of one state. With a write-ahead log that stops no writer, but the log grows until the copy is done. Without
the transaction SQLite would start again after each commit (https://sqlite.org/c3ref/backup_finish.html).
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
from pylon.store.label import is_only_begun, need_beginning
from pylon.store.look import check_pages, check_self, opened_to_read
from pylon.store.marks import COPIED_AT, COPIED_TO, where

# How many pages are copied at a time: a megabyte with pages of four kilobytes.
_PAGES = 256
_PATIENCE_S = 10.0

# Called with how many bytes are copied, and of how many.
type OnProgress = Callable[[int, int], None]


def copy_database(
    source: Path, target: Path, *, label: str, at: float, told: OnProgress, kept_in: Path | None = None
) -> float | None:
    """Copies a database into the new file `target` (0600), checks the copy for damage and flushes it to the disk.

    Returns of when the copy's contents are (Unix seconds): `at`, or the earlier time of a source that is a copy
    itself. Returns None and makes no file if the first start of the source was cut off before the first table.

    That time and the folder `kept_in` are written into the copy, so that whoever opens it sees that it is a copy
    (`marks`), and whether it still lies where it was made (`look`). `told` is called after every megabyte. Raises
    `SetupError` for a source that is damaged or not ours, `sqlite3.Error` where the source cannot be read or the copy
    not written.
    """
    try:
        with _opened_source(source, target.parent) as source_db:
            if is_only_begun(source_db, source):
                return None
            before = check_self(source_db, source, (), label)
            at = at if before is None else before
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(_opened(target)) as copy:
                _copy(source_db, copy, told)
                # SQLite copies damaged pages as they are.
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


def _copy(source_db: sqlite3.Connection, copy: sqlite3.Connection, told: OnProgress) -> None:
    source_db.execute("BEGIN")
    # The read transaction begins with the first read.
    source_db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    size = source_db.execute("PRAGMA page_size").fetchone()[0]
    source_db.backup(copy, pages=_PAGES, progress=lambda _, left, pages: told((pages - left) * size, pages * size))
    source_db.execute("COMMIT")


def _mark(copy: sqlite3.Connection, at: float, kept_in: Path | None) -> None:
    marks = {COPIED_AT: repr(at)} | ({} if kept_in is None else {COPIED_TO: where(kept_in)})
    copy.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(marks.items()))


@contextmanager
def _opened_source(path: Path, scratch: Path) -> Iterator[sqlite3.Connection]:
    """Opens the source, also on a read-only disk such as a snapshot's; temporary files are made in `scratch`."""
    if not path.exists():
        raise SetupError(f"{path} does not exist")
    if not path.stat().st_size:
        # Opened for writing, SQLite would delete the log beside an empty file.
        need_beginning(path)
    log, index = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))
    had_log = log.exists()
    if _can_be_written(path.parent):
        with closing(_opened(path)) as source_db:
            yield source_db
    elif had_log and not index.exists():
        # SQLite reads a log only with its index file, which it would create beside the source.
        with TemporaryDirectory(dir=scratch) as folder:
            for each in (path, log):
                shutil.copyfile(each, Path(folder) / each.name)
            with closing(_opened(Path(folder) / path.name)) as source_db:
                yield source_db
    else:
        with closing(opened_to_read(path)) as source_db:
            yield source_db
        if log.exists() and not had_log:
            # A database without a log was read without a lock, and another machine may write what is read-only here.
            raise SetupError(f"another program started to write {path} while it was copied", hint="Try again.")


def _can_be_written(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_PATIENCE_S)
