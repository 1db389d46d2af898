"""Files that are written whole: after a crash there stands the old one or the new one, never a part of one."""

import errno
import fcntl
import os
import tempfile
from pathlib import Path


def flush_to_disk(file: int) -> None:
    """Returns once what was written to this open file or folder stays when the power goes. Raises `OSError`."""
    # On macOS `fsync` leaves it in the cache of the disk (fsync(2) there, and SQLite's `PRAGMA fullfsync`).
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(file, full)
        except OSError as error:
            # Not every file system there knows it, such as one over the network.
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return
    os.fsync(file)


def write_whole(path: Path, data: bytes) -> None:
    """Puts `data` in the place of the file in one step, on disk when this returns, for its owner's eyes only (0600).

    Raises `OSError`; then the old file stands as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            flush_to_disk(stream.fileno())
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # The system names no file where it has no room, and the draft's name says nothing to anybody.
            error.filename = str(path)
        raise
