"""The lock of a wallet link: two homes that used one link would each spend up to its own limits.

It works among the homes of one user on one machine. docs/money.md says what holds beyond that.
"""

import fcntl
import os
import pwd
from contextlib import suppress
from pathlib import Path

from pylon.errors import LinkBusyError
from pylon.money.nwc.uri import NwcUri
from pylon.node.home import Home, private_folder, short_folder


class LinkLock:
    """Locks a wallet link, named by its public key, for the home that has it open.

    The kernel holds the lock and releases it when the process ends, in whatever way.
    """

    def __init__(self, home: Home, link: NwcUri) -> None:
        self._home = home
        self._path = locks_folder() / f"{link.secret.public}.lock"
        self._file: int | None = None

    def acquire(self) -> None:
        """Raises `LinkBusyError` when another home has the link open."""
        private_folder(self._path.parent)
        while self._file is None:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The last holder may have removed the file between `open` and `flock`.
                if self._is_there(file):
                    self._file = file
            except BlockingIOError as error:
                holder = os.read(file, 4_096).decode(errors="replace")
                raise LinkBusyError(
                    f"another home is using this wallet link: {holder or 'it is just opening it'}",
                    hint=(
                        "Each home has its own spending limits, so each needs its own link. Make "
                        "another in the wallet, and connect it with `pylon wallet connect`."
                    ),
                ) from error
            finally:
                if self._file != file:
                    os.close(file)
        os.truncate(self._file, 0)
        os.write(self._file, os.fsencode(self._home.folder))

    def release(self) -> None:
        """Releases the lock."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _is_there(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False


def locks_folder() -> Path:
    """The folder for locks: the same for all processes of a user, however they were started. It depends on no
    environment variable and no folder that a desktop session, an ssh session and a service do not share."""
    with suppress(KeyError):
        own = Path(pwd.getpwuid(os.getuid()).pw_dir)
        folder = locks_in(own)
        # A service may be denied its user's home folder, but is allowed this one.
        if folder.is_dir() or os.access(own, os.W_OK | os.X_OK):
            return folder
    # A system user without a home folder, as in a container.
    return short_folder()


def locks_in(own: Path) -> Path:
    """The folder for locks in the home folder `own` of a user."""
    return own / ".local" / "state" / "pylon"
