"""Files that are written whole: after a crash there stands the old one or the new one, never a part of one."""

import os
import tempfile
from pathlib import Path


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
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # The system names no file where it has no room, and the draft's name says nothing to anybody.
            error.filename = str(path)
        raise
