"""What a database says of itself: that it is Pylon's, of which network, and of which version."""

import sqlite3
from pathlib import Path

from pylon.errors import SetupError

# "PYLN": tells `file` and us that this is Pylon's database (`PRAGMA application_id`).
APPLICATION_ID = 0x50594C4E


def check_label(path: Path, application_id: int, found: str | None, wanted: str) -> None:
    """Raises `SetupError` for another program's file, and for a database of another network."""
    if application_id != APPLICATION_ID:
        raise SetupError(f"{path} is not a Pylon database", hint="Move the file away and start again.")
    if found != wanted:
        raise SetupError(
            f"{path} belongs to {'nothing' if found is None else found!r}, not to {wanted!r}",
            hint="Each network has its own folder: check which file was copied where.",
        )


def check_version(path: Path, room: str, version: int, newest: int) -> None:
    """Raises `SetupError` for tables that no Pylon wrote, or that a newer one did."""
    if version < 1:
        raise SetupError(f"{path} has an unknown version ({room} {version})", hint="Restore it from a backup.")
    if version > newest:
        raise SetupError(
            f"{path} was written by a newer Pylon ({room} {version})",
            hint="Install that version again, or move the file away.",
        )


def beginning(path: Path) -> Path:
    """The marker file beside a new database, from before the database exists until its first tables are written."""
    return path.with_name(f"{path.name}-new")


def need_beginning(path: Path) -> None:
    """Raises `SetupError` unless an empty database has the marker of a first start that was cut off."""
    if not beginning(path).exists():
        raise SetupError(
            f"{path} is empty, although it was not when it was created",
            hint="Restore it from a backup. Or delete it to start over without its content.",
        )


def is_only_begun(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether no table was written yet, as when its first start was cut off.

    Raises `SetupError` for a file without the marker: one that was copied without its write-ahead log may hold no
    table either.
    """
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application_id or tables:
        return False
    need_beginning(path)
    return True
