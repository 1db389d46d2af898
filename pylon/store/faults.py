"""Messages and hints for SQLite errors: damage, a full disk, a file that cannot be read or written.

The store raises `sqlite3`'s own errors, which its callers tell apart by their codes. Where such an error ends a
command or a call, it is turned into a `PylonError` here.
"""

import sqlite3
from pathlib import Path

from pylon.errors import PylonError, SetupError

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_READ_ONLY = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_OUT_OF_REACH = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_RESTORE = "It is damaged, or not a database: restore it from a backup."


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged, which neither waiting nor disk space nor permissions mend."""
    return _code(error) in _DAMAGED


def named(error: sqlite3.Error, path: Path) -> None:
    """Adds the path of the file to the error as a note: SQLite does not say which file it means."""
    if not hasattr(error, "__notes__"):
        error.add_note(str(path))


def cannot_be_opened(path: str | Path, error: sqlite3.Error) -> SetupError:
    """The error for a file that SQLite cannot open as a database."""
    hint = _hint(error) or "Check its owner and folder; if it is damaged, restore it from a backup."
    return SetupError(f"{path} cannot be opened as a database: {error}", hint=hint)


def damaged(path: str | Path, what: str) -> SetupError:
    """The error for a database that opens, and in which an integrity check found `what`."""
    hint = _RESTORE
    if "index" in what:
        hint = f"Its indexes can be made anew: end what uses it, then `sqlite3 {path} REINDEX`. If it stays damaged,"
        hint += " restore it from a backup."
    return SetupError(f"{path} is damaged: {what}", hint=hint)


def told(error: sqlite3.Error) -> PylonError | None:
    """The error with a message for the file's owner; None for a fault of the program, such as wrong SQL."""
    hint = _hint(error)
    if not hint:
        return None
    path = next(iter(getattr(error, "__notes__", ())), "the database")
    code = _code(error)
    if code in _DAMAGED:
        return cannot_be_opened(path, error)
    if code in _HELD:
        return PylonError(f"another program has locked {path}: {error}", hint=hint)
    what = "read or written" if code in _OUT_OF_REACH else "written"
    return PylonError(f"{path} cannot be {what}: {error}", hint=hint)


def _code(error: sqlite3.Error) -> int:
    # The lower byte is the primary code, the rest an extension of it. Errors that Python raises by itself have none.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _hint(error: sqlite3.Error) -> str:
    """What the owner can do about it; empty for a fault of the program."""
    code = _code(error)
    if code in _DAMAGED:
        return _RESTORE
    if code == sqlite3.SQLITE_FULL:
        return "Free some space on its disk, and try again."
    if code in _READ_ONLY:
        return "Give your user permission to write it and its folder, or find out why its disk is read-only."
    if code in _OUT_OF_REACH:
        return "Check its owner and folder, and that its disk is mounted and has space."
    if code in _HELD:
        return "Close the program that has it open, and try again."
    return ""
