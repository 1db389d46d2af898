"""Files as a first start leaves them that is killed before its first table."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pylon.store.steps import set_up


def nothing_yet(path: Path) -> None:
    """Killed at once."""
    path.touch()


def no_table_yet(path: Path) -> None:
    """Killed when the connection was set up, which writes a first page."""
    with closing(sqlite3.connect(path, isolation_level=None)) as books:
        set_up(books, "FULL")
    assert path.stat().st_size
