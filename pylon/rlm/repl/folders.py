"""The temporary folder of a REPL, which holds links to the whole context, and its removal.

The process that makes a folder holds a lock on it. A process that is killed leaves its folders behind unlocked; the
next run removes them.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "pylon-sandbox-"
# A younger folder is left alone: its process may have made it and not locked it yet.
_YOUNG_S = 60.0


class ReplFolder:
    """A new folder that only its user may enter. Blocking."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Removes the folder and what is in it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def sweep(*, young_s: float = _YOUNG_S) -> int:
    """Removes this user's REPL folders whose process has ended, and returns how many. Blocking."""
    gone = 0
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            gone += _swept(path, young_s)
    return gone


def _swept(path: Path, young_s: float) -> bool:
    # O_NOFOLLOW: a link of that name is not a REPL's folder.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.getuid() or time.time() - status.st_mtime < young_s:
            return False
        # Raises BlockingIOError while its process runs.
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
        return True
    finally:
        os.close(folder)
