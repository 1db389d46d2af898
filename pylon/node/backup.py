"""`pylon backup`: copies everything irreplaceable of a home into a folder that is itself a home.

It works while the home is in use. It leaves out models, logs, caches, trajectories and the events of `pylon relay`.
It also leaves out the permission for live money, since the limits of a copy do not count what was paid after it was
made: a person must check that and type the caps again. `restored` handles the first start with a copy.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError
from pylon.files import flush_to_disk, write_whole
from pylon.money.network import Network
from pylon.node import bank, identity
from pylon.node.home import BANK_DATABASE, DATABASE, Home
from pylon.node.wallet.live import LIVE_FILE, STOP_FILE, is_stopped
from pylon.store.copy import copy_database

CONFIG = "config.toml"
_UNFINISHED = ".unfinished"
# This file marks the folder of an unfinished backup. A folder of that name without it is never cleared.
_MARK = ".pylon-backup"
# Files of a network that are not copied: the lock of a process, and the permission for live money.
_LEFT_OUT = {"lock", LIVE_FILE}
_AT_ROOT = (CONFIG, bank.KEY_FILE)

# Called with a database's path, how much of it is copied, and its size, both in bytes.
type Told = Callable[[Path, int, int], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup.

    `copied_at` (Unix seconds) is when its databases were copied. Where the home was a restored copy that no node had
    started with, it is when that was copied. `size` is in bytes. `open_to_others`: the disk keeps no file
    permissions, so other users can read the backup.
    """

    folder: Path
    networks: tuple[str, ...]
    copied_at: float
    size: int
    open_to_others: bool


def back_up(home: Home, folder: Path, *, now: float, told: Told) -> Backup:
    """Copies all networks of the home into a new folder, which appears only once all of it is on the disk.

    `now` is in Unix seconds; `told` is called with the progress. Raises `SetupError` if the folder cannot be used, a
    network has no key or a database is damaged; `OSError` and `sqlite3.Error` if something cannot be read or written.
    """
    networks = tuple(each.value for each in Network if _holds(Home(home.root, each)))
    for network in (home.network, *networks):
        _need_key(Home(home.root, network), in_use=network == home.network)
    with _whole_folder(folder) as draft:
        times = [_copy_network(home.root / name, draft / name, name, now, folder, told) for name in networks]
        # After the other databases, so that the bank's copy has every payment that theirs have.
        if (home.root / BANK_DATABASE).exists():
            _copy_books(home.root / BANK_DATABASE, draft / BANK_DATABASE, bank.LABEL, now, folder, told)
        for name in _AT_ROOT:
            if (home.root / name).is_file():
                write_whole(draft / name, (home.root / name).read_bytes())
        if is_stopped(home.root):
            write_whole(draft / STOP_FILE, b"")
        size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
    loose = bool(folder.stat().st_mode & 0o077)
    return Backup(folder, networks, min([now, *(at for at in times if at is not None)]), size, loose)


def _need_key(home: Home, *, in_use: bool) -> None:
    # A copy without its key would be useless.
    if not home.identity_file.exists():
        hint = "Run `pylon init`, or `pylon identity restore`."
        if not in_use:
            hint = (
                f"`PYLON_NETWORK={home.network} pylon identity restore` brings it back; or move {home.folder} away."
            )
        raise SetupError(f"there is no key in {home.identity_file}", hint=hint)
    identity.is_protected(home.identity_file)


def _holds(home: Home) -> bool:
    return home.identity_file.is_file() or home.database.is_file()


def _copy_network(source: Path, target: Path, network: str, now: float, kept_in: Path, told: Told) -> float | None:
    target.mkdir(mode=0o700)
    at = None
    if (source / DATABASE).exists():
        at = _copy_books(source / DATABASE, target / DATABASE, network, now, kept_in, told)
    for path in sorted(source.iterdir()):
        # Skips the files that SQLite keeps beside the database, and temporary files of `write_whole`.
        if path.is_file() and not path.name.startswith((DATABASE, ".")) and path.name not in _LEFT_OUT:
            write_whole(target / path.name, path.read_bytes())
    _on_disk(target)
    return at


def _copy_books(source: Path, target: Path, label: str, at: float, kept_in: Path, told: Told) -> float | None:
    return copy_database(
        source, target, label=label, at=at, told=lambda done, size: told(source, done, size), kept_in=kept_in
    )


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a draft folder, which is renamed to `folder` at the end. A draft that a crash left is cleared first."""
    if os.path.lexists(folder):
        raise SetupError(f"{folder} already exists", hint="Name a new folder: a backup never overwrites anything.")
    if folder.parent.is_file():
        raise SetupError(f"{folder.parent} is a file, not a folder", hint="Name a new folder in one that exists.")
    if not folder.parent.is_dir():
        # The likely cause: its disk is not mounted.
        raise SetupError(f"folder {folder.parent} does not exist", hint="Create it, or mount its disk.")
    draft = folder.with_name(f"{folder.name}{_UNFINISHED}")
    held = _opened(draft)
    try:
        _hold(held, draft)
        _clear(draft)
        os.fchmod(held, 0o700)
        (draft / _MARK).touch(mode=0o600)
        _on_disk(draft)
        try:
            yield draft
            _on_disk(draft)
            try:
                draft.rename(folder)
            except OSError as error:
                if not os.path.lexists(folder):
                    raise
                raise SetupError(
                    f"{folder} was created by something else in the meantime", hint="Name a new folder."
                ) from error
        except BaseException:
            # Deleted, because it holds a key.
            shutil.rmtree(draft, ignore_errors=True)
            raise
        (folder / _MARK).unlink()
        _on_disk(folder)
        _on_disk(folder.parent)
    finally:
        os.close(held)


def _opened(draft: Path) -> int:
    """Opens the draft folder, or creates it. Raises `SetupError` for a link, or another user's folder."""
    with suppress(FileExistsError):
        draft.mkdir(mode=0o700)
    try:
        held = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (NotADirectoryError, PermissionError) as error:
        raise _not_a_draft(draft) from error
    except OSError as error:
        # For a link, some systems raise ELOOP and others `NotADirectoryError`.
        if error.errno != errno.ELOOP:
            raise
        raise _not_a_draft(draft) from error
    if os.fstat(held).st_uid != os.getuid():
        os.close(held)
        raise _not_a_draft(draft)
    return held


def _not_a_draft(draft: Path) -> SetupError:
    return SetupError(
        f"{draft} does not belong to you, or is not a folder", hint="Name another folder, or move it away."
    )


def _hold(held: int, draft: Path) -> None:
    """Locks the draft folder. Raises `SetupError` if another process has it."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another backup may have held it, and renamed or removed it in between.
        ours = os.path.samestat(os.fstat(held), draft.stat())
    except (BlockingIOError, FileNotFoundError):
        ours = False
    if not ours:
        raise SetupError(
            f"another process is making a backup in {draft}", hint="Wait for it, or name another folder."
        )


def _clear(draft: Path) -> None:
    """Deletes what an interrupted backup left. Raises `SetupError` if the folder holds anything else."""
    left = {path.name: path for path in draft.iterdir()}
    # Without the mark, it is a user's own folder that happens to have that name.
    strange = [name for name in left if not _is_left_by_backup(name)] if _MARK in left else list(left)
    if strange:
        raise SetupError(
            f"{draft} contains files that are not from a backup: {', '.join(sorted(strange))}",
            hint="Name another folder, or move it away.",
        )
    for name, path in left.items():
        # The mark stays, in case this process is killed too.
        if name != _MARK:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_left_by_backup(name: str) -> bool:
    # The temporary files of `write_whole` have a dot before the name and random letters after it.
    whole = name[1:].rpartition(".")[0] if name.startswith(".") else name
    books = {f"{BANK_DATABASE}{end}" for end in ("", "-journal", "-wal", "-shm")}
    return name == _MARK or whole in {*_AT_ROOT, STOP_FILE} or name in books or name in Network


def _on_disk(folder: Path) -> None:
    """Flushes the entries of a folder to the disk."""
    entry = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flush_to_disk(entry)
    finally:
        os.close(entry)
