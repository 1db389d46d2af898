"""One wallet link, one home: two that share a link would each spend up to its own limits, and neither would know.

Only the homes of one user on one machine can be told apart like this; `docs/money.md` says what holds beyond it.
"""

import fcntl
import os
import pwd
from contextlib import suppress
from pathlib import Path

from pylon.errors import LinkBusyError
from pylon.money.nwc.uri import NwcUri
from pylon.node.home import Home, private_folder


class LinkLock:
    """The lock of a wallet link, named by its public key and held by the home that has the link open.

    It is the kernel's, so it goes with the process however that ends.
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
                # Whoever held it before may have removed it between the two lines above.
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
        """Lets go."""
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
    """The same for all of a user's processes, however they came about: it goes by no variable, since a session at a
    desktop, one over ssh and a service have different ones, and by no folder that is there in some of them only."""
    user = os.getuid()
    with suppress(KeyError):
        own = Path(pwd.getpwuid(user).pw_dir)
        folder = locks_in(own)
        # A service may not write to its user's folder, and to this one it may.
        if folder.is_dir() or os.access(own, os.W_OK | os.X_OK):
            return folder
    # A user of the system without a folder of its own, as in a container.
    return Path("/tmp") / f"pylon-{user}"  # noqa: S108 - `private_folder` looks at what is there


def locks_in(own: Path) -> Path:
    """The folder for locks of a user whose own folder that is."""
    return own / ".local" / "state" / "pylon"
