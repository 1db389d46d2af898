"""`pylon backup`: copies the home while it is in use."""

import sqlite3
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from pylon.cli.output import err, out
from pylon.cli.running import Json, fail, print_json
from pylon.errors import PylonError
from pylon.node.backup import Backup, back_up
from pylon.node.home import open_home
from pylon.store.faults import told


def backup(
    folder: Annotated[Path, typer.Argument(help="The folder to create. It must not exist yet.")],
    as_json: Json = False,
) -> None:
    """Back up the home while it is in use: settings, keys, wallet links and a consistent snapshot of the books.

    The folder appears once everything is on disk and has been read back. To restore, put a copy of the folder in
    the home's place. docs/backup.md explains what restoring an older backup means for your money.
    """
    try:
        home, _ = open_home()
        with _Bar(quiet=as_json) as bar:
            made = back_up(home, folder.expanduser().absolute(), now=time.time(), told=bar.told)
    except PylonError as error:
        fail(error, as_json=as_json)
    except sqlite3.Error as error:
        if (understood := told(error)) is None:
            raise
        fail(understood, as_json=as_json)
    _print(made, as_json=as_json)


def _print(made: Backup, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "folder": str(made.folder),
                "networks": made.networks,
                "copied_at": made.copied_at,
                "bytes": made.size,
                "open_to_others": made.open_to_others,
            }
        )
        return
    out.print(
        f"wrote {made.folder} ({made.size / 1e6:,.1f} MB). Keep it safe: anyone who has it can act as "
        "this node and spend from its wallet."
    )
    if made.open_to_others:
        err.print("That disk does not support file permissions, so anyone with access to it can read the backup.")


class _Bar:
    """Shows on a terminal how far the copying is."""

    def __init__(self, *, quiet: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        self._progress = Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True)
        self._task = self._progress.add_task("")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, database: Path, copied: int, size: int) -> None:
        """Takes how much of a database is copied, in bytes."""
        what = f"{database.parent.name}/{database.name}"
        self._progress.update(self._task, description=what, completed=copied, total=size)
