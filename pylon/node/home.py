"""PYLON_HOME: the paths of its files, and the lock of the process that uses it.

    config.toml   models/   logs/   runs/   cache/   <network>/identity   <network>/pylon.db   <network>/pylon.sock

Folders have mode 0700, key and database 0600. Each network has a folder, a key and a database of its own, so that
play money and live money never mix.
"""

import fcntl
import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pylon import config as settings
from pylon.errors import HomeBusyError, SetupError
from pylon.files import write_whole
from pylon.node.example import example_toml
from pylon.sections import Config

DATABASE, BANK_DATABASE = "pylon.db", "bank.db"

# sun_path holds 104 bytes on macOS and 108 on Linux, the final zero included.
_SOCKET_PATH_BYTES = 103


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one home and network."""

    root: Path
    network: str = "play"

    @property
    def config_file(self) -> Path:
        return self.root / "config.toml"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def capacity_file(self) -> Path:
        """What `pylon bench engine` measured, by model."""
        return self.models / "capacity.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def runs(self) -> Path:
        """Trajectories of the RLM."""
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        """Files that can be created again, such as the unpacked runtime of the sandbox."""
        return self.root / "cache"

    @property
    def folder(self) -> Path:
        return self.root / self.network

    @property
    def identity_file(self) -> Path:
        return self.folder / "identity"

    @property
    def database(self) -> Path:
        return self.folder / DATABASE

    @property
    def lock_file(self) -> Path:
        return self.folder / "lock"

    @property
    def socket(self) -> Path:
        """The control socket; see `socket_path`."""
        return socket_path(self.folder / "pylon.sock")

    def create(self) -> None:
        """Creates the folders, and a config file that shows every setting if there is none.

        If that fails, as on a full disk, it removes the empty folders that it created. Raises `OSError`,
        `SetupError`.
        """
        made: list[Path] = []
        try:
            for folder in (self.root, self.models, self.logs, self.folder):
                made += reversed([each for each in (folder, *folder.parents) if not each.exists()])
                private_folder(folder)
            if not self.config_file.exists():
                write_whole(self.config_file, example_toml().encode())
        except OSError:
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()
            raise


def socket_path(path: Path) -> Path:
    """The path itself; if it is too long for a socket, one in a private folder of this user under /tmp.

    TMPDIR is not used: it may be too long too, and may differ in the processes that call the node.
    """
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
    return short_folder() / f"{name}.sock"


def short_folder() -> Path:
    """A folder of this user whose path is short, and which a user without a home folder has too."""
    return Path("/tmp") / f"pylon-{os.getuid()}"  # noqa: S108 - `private_folder` looks at what is there


def private_folder(folder: Path) -> None:
    """Creates a folder that only this user can enter. Raises `SetupError` if it belongs to another user."""
    if folder == short_folder():
        _refuse_what_others_put_at(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SetupError(f"{folder} belongs to another user", hint="Set PYLON_HOME to a folder of your own.")
    folder.chmod(0o700)


def _refuse_what_others_put_at(folder: Path) -> None:
    # In /tmp, any user may have created a file, or a link to one of our folders, under this name.
    with suppress(FileNotFoundError):
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise SetupError(
                f"{folder} does not belong to you, or is not a folder",
                hint=("Set a shorter PYLON_HOME, which does not need it, or have the other path removed."),
            )


def open_home() -> tuple[Home, Config]:
    """The home that PYLON_HOME names, and its settings. Raises `SetupError` if `pylon init` was not run."""
    return home_at(settings.home_directory())


def home_at(root: Path) -> tuple[Home, Config]:
    """The home in this folder, and its settings. Raises `SetupError` if `pylon init` was not run."""
    root = root.expanduser().absolute()
    config = settings.load(root / "config.toml")
    return Home(root, config.network), config


class HomeLock:
    """The lock of one home and network, for the process that owns its database, relays and wallet.

    The kernel holds the lock and releases it when the process ends, in whatever way.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.lock_file
        self._file: int | None = None

    def acquire(self) -> None:
        """Takes the lock; does nothing if this object has it. Raises `HomeBusyError` if another process has it."""
        if self._file is not None:
            return
        private_folder(self._path.parent)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise HomeBusyError(
                f"another process is using {self._path.parent}", hint="`pylon status` shows what it is doing."
            ) from error
        self._file = file

    def release(self) -> None:
        """Releases the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
