"""What SQLite refuses, said to the owner of the file: damage, a full disk, a file that cannot be got at.

The store raises `sqlite3`'s own errors, which its callers tell apart by their codes. What ends a command or a call
is turned into a message here.
"""

import sqlite3
from pathlib import Path

from pylon.errors import PylonError, SetupError

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_OUT_OF_REACH = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def named(error: sqlite3.Error, path: Path) -> None:
    """Writes on the error which file it is about: SQLite does not say."""
    if not hasattr(error, "__notes__"):
        error.add_note(str(path))


def cannot_be_opened(path: str | Path, error: sqlite3.Error) -> SetupError:
    """What is said of a file that SQLite cannot make anything of."""
    return SetupError(
        f"{path} cannot be opened as a database: {error}",
        hint="Check its owner and the free space; if it is damaged, restore it from a backup.",
    )


def told(error: sqlite3.Error) -> PylonError | None:
    """The same for the file's owner, or None for what is no fault of file and disk but of the program."""
    # The upper bits say more precisely what the lower ones mean. What Python raises by itself has no code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    path = next(iter(getattr(error, "__notes__", ())), "the database")
    if code in _DAMAGED:
        return cannot_be_opened(path, error)
    if code == sqlite3.SQLITE_FULL:
        return PylonError(f"{path} cannot be written: {error}", hint="Make room on its disk, and try again.")
    if code in _OUT_OF_REACH:
        return PylonError(
            f"{path} cannot be read or written: {error}", hint="Check its owner, its disk and its folder."
        )
    if code in _HELD:
        return PylonError(f"another program holds {path}: {error}", hint="Close what has it open, and try again.")
    return None
