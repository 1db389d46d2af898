"""A copy of a home, made while it is in use: all that cannot be had again, in a folder that is itself a home.

What is not in it: models, logs, caches, trajectories, the events of `pylon relay`; and the permission for live money,
since limits do not count what was paid after the copy: a person looks, and types the caps again.
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
from pylon.node.home import DATABASE, Home
from pylon.node.wallet.live import LIVE_FILE, STOP_FILE, is_stopped
from pylon.store.copy import copy_database

CONFIG = "config.toml"
_UNFINISHED = ".unfinished"
# Stands in a draft from its first moment on. A folder that is called like one and has it not is never cleared.
_MARK = ".pylon-backup"
# Not what belongs to a process, nor what a copy shall not have.
_LEFT_OUT = {"lock", LIVE_FILE}
_AT_ROOT = (CONFIG, bank.KEY_FILE)

# The database, how much of it is copied, and its size, in bytes.
type Told = Callable[[Path, int, int], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """What was made, of `size` bytes. `copied_at` (Unix seconds): its books are of then, the oldest of them where the
    home was a backup itself. `open_to_others`: its disk keeps no rights."""

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
    networks = tuple(each.value for each in Network if _holds(Home(home.root, each)))
    for network in (home.network, *networks):
        _need_key(Home(home.root, network), in_use=network == home.network)
    with _whole_folder(folder) as draft:
        times = [_copy_network(home.root / name, draft / name, name, now, folder, told) for name in networks]
        # After the books: a payment that is open in them the bank may know, and none that they know is new to it.
        if (home.root / bank.DATABASE).exists():
            _copy_books(home.root / bank.DATABASE, draft / bank.DATABASE, bank.LABEL, now, folder, told)
        for name in _AT_ROOT:
            if (home.root / name).is_file():
                write_whole(draft / name, (home.root / name).read_bytes())
        if is_stopped(home.root):
            write_whole(draft / STOP_FILE, b"")
        size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
    loose = bool(folder.stat().st_mode & 0o077)
    return Backup(folder, networks, min([now, *(at for at in times if at is not None)]), size, loose)


def _need_key(home: Home, *, in_use: bool) -> None:
    # A copy without what opens it is none.
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
        # Neither the log of the database nor a file that is being written.
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
    """A draft, which becomes the folder at the end. One that a crash left is made anew."""
    if os.path.lexists(folder):
        raise SetupError(f"{folder} already exists", hint="Name a new folder: a backup never overwrites anything.")
    if not folder.parent.is_dir():
        # On a disk that is not there now, most often.
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
            # It holds a key.
            shutil.rmtree(draft, ignore_errors=True)
            raise
        (folder / _MARK).unlink()
        _on_disk(folder)
        _on_disk(folder.parent)
    finally:
        os.close(held)


def _opened(draft: Path) -> int:
    """The folder of that name, which is made where there is none, and is no link and nobody else's where there is."""
    with suppress(FileExistsError):
        draft.mkdir(mode=0o700)
    try:
        held = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (NotADirectoryError, PermissionError) as error:
        raise _not_a_draft(draft) from error
    except OSError as error:
        # What the systems say of a link differs.
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
    left = {path.name: path for path in draft.iterdir()}
    # Without the mark it is a folder of somebody's that happens to be called so.
    strange = [name for name in left if not _is_left_by_backup(name)] if _MARK in left else list(left)
    if strange:
        raise SetupError(
            f"{draft} contains files that are not from a backup: {', '.join(sorted(strange))}",
            hint="Name another folder, or move it away.",
        )
    for name, path in left.items():
        # The mark stays: whatever clears may be killed, too.
        if name != _MARK:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_left_by_backup(name: str) -> bool:
    # A file that was being written has a dot before its name, and letters of chance behind it.
    whole = name[1:].rpartition(".")[0] if name.startswith(".") else name
    books = {f"{bank.DATABASE}{end}" for end in ("", "-journal", "-wal", "-shm")}
    return name == _MARK or whole in {*_AT_ROOT, STOP_FILE} or name in books or name in Network


def _on_disk(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flush_to_disk(entry)
    finally:
        os.close(entry)
