"""The folder of a REPL, which holds links to the whole context, and no such folder outlives its process for long.

Whoever makes one holds a lock on it. A process that was killed leaves its folders behind unlocked, and the next run
sweeps them away.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "pylon-sandbox-"
# Between making a folder and locking it.
_YOUNG_S = 60.0


class ReplFolder:
    """A new one, for its user alone. `remove` may be called twice. Blocking."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def sweep(*, young_s: float = _YOUNG_S) -> int:
    """Removes the folders of REPLs whose process has gone; how many. Those of other users stay. Blocking."""
    gone = 0
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            gone += _swept(path, young_s)
    return gone


def _swept(path: Path, young_s: float) -> bool:
    # A link of that name is nobody's REPL.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.getuid() or time.time() - status.st_mtime < young_s:
            return False
        # Raises where its process lives.
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
        return True
    finally:
        os.close(folder)
