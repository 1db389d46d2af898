"""A copy of a home, made while it is in use: all that cannot be had again, in a folder that is itself a home.

What is not in it: models, logs, caches, trajectories, the events of `pylon relay`; and the permission for live money,
since limits do not count what was paid after the copy: a person looks, and types the caps again.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError
from pylon.files import write_whole
from pylon.money.network import Network
from pylon.node import bank, identity
from pylon.node.home import DATABASE, Home, private_folder
from pylon.node.wallet.live import LIVE_FILE, STOP_FILE, is_stopped
from pylon.store.copy import copy_database

CONFIG = "config.toml"
_UNFINISHED = ".unfinished"
# Not what belongs to a process, nor what a copy shall not have.
_LEFT_OUT = {"lock", LIVE_FILE}
_AT_ROOT = (CONFIG, bank.KEY_FILE)

# The database, how much of it is copied, and its size, in bytes.
type Told = Callable[[Path, int, int], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """What was made. `copied_at` in Unix seconds, `size` in bytes. `open_to_others`: its disk keeps no rights."""

    folder: Path
    networks: tuple[str, ...]
    copied_at: float
    size: int
    open_to_others: bool


def back_up(home: Home, folder: Path, *, now: float, told: Told) -> Backup:
    """Copies all networks of the home into `folder`, which is not there yet; it is there once all of it is on disk.

    `told` hears how the databases come along. Raises `SetupError`, also where the home has no key or its database is
    damaged; `OSError` and `sqlite3.Error` where something cannot be read or written.
    """
    # A copy without what opens it is none.
    if not home.identity_file.exists():
        raise SetupError(
            f"there is no key in {home.identity_file}", hint="Run `pylon init`, or `pylon identity restore`."
        )
    identity.is_protected(home.identity_file)
    networks = tuple(each.value for each in Network if _holds(Home(home.root, each)))
    with _whole_folder(folder) as draft:
        for name in networks:
            _copy_network(home.root / name, draft / name, name, now, told)
        # After the books: a payment that is open in them the bank may know, and none that they know is new to it.
        if (home.root / bank.DATABASE).exists():
            _copy_books(home.root / bank.DATABASE, draft / bank.DATABASE, bank.LABEL, None, told)
        for name in _AT_ROOT:
            if (home.root / name).is_file():
                write_whole(draft / name, (home.root / name).read_bytes())
        if is_stopped(home.root):
            write_whole(draft / STOP_FILE, b"")
        size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
    loose = bool(folder.stat().st_mode & 0o077)
    return Backup(folder, networks, now, size, loose)


def _holds(home: Home) -> bool:
    return home.identity_file.is_file() or home.database.is_file()


def _copy_network(source: Path, target: Path, network: str, now: float, told: Told) -> None:
    target.mkdir(mode=0o700)
    if (source / DATABASE).exists():
        _copy_books(source / DATABASE, target / DATABASE, network, now, told)
    for path in sorted(source.iterdir()):
        # Neither the log of the database nor a file that is being written.
        if path.is_file() and not path.name.startswith((DATABASE, ".")) and path.name not in _LEFT_OUT:
            write_whole(target / path.name, path.read_bytes())
    _on_disk(target)


def _copy_books(source: Path, target: Path, label: str, at: float | None, told: Told) -> None:
    if source.stat().st_size == 0 and source.with_name(f"{source.name}-new").exists():
        # Its first start did not come as far as the first table.
        return
    copy_database(source, target, label=label, at=at, told=lambda done, size: told(source, done, size))


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A draft, which becomes the folder at the end. One that a crash left is made anew."""
    if os.path.lexists(folder):
        raise SetupError(f"{folder} is there already", hint="Name a new folder: a backup is never written over.")
    if not folder.parent.is_dir():
        # On a disk that is not there now, most often.
        raise SetupError(f"there is no folder {folder.parent}", hint="Make it, or have its disk mounted.")
    draft = folder.with_name(f"{folder.name}{_UNFINISHED}")
    private_folder(draft)
    held = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _hold(held, draft)
        _clear(draft)
        try:
            yield draft
            _on_disk(draft)
            try:
                draft.rename(folder)
            except OSError as error:
                if not os.path.lexists(folder):
                    raise
                raise SetupError(f"{folder} has come to be meanwhile", hint="Name a new folder.") from error
        except BaseException:
            # It holds a key.
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _on_disk(folder.parent)
    finally:
        os.close(held)


def _hold(held: int, draft: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it may have been done with it in between.
        ours = os.path.samestat(os.fstat(held), draft.stat())
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:
        raise SetupError(
            f"another process is making a backup in {draft}", hint="Wait for it, or name another folder."
        )


def _clear(draft: Path) -> None:
    left = list(draft.iterdir())
    ours = (*_AT_ROOT, STOP_FILE, bank.DATABASE, *Network)
    strange = [path.name for path in left if not path.name.lstrip(".").startswith(ours)]
    if strange:
        raise SetupError(
            f"{draft} holds what no backup left there: {', '.join(strange)}",
            hint="Name another folder, or move it away.",
        )
    for path in left:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _on_disk(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
