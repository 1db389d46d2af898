"""Writes a file completely or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(file: Path) -> Iterator[TextIO]:
    """A stream to the file, in UTF-8 and without changing line ends. An old file is replaced only when everything is
    written. Raises `OSError`."""
    if file.exists() and not file.is_file():
        # A pipe or a terminal cannot be replaced.
        with file.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    # A symbolic link is kept, and the file that it points to is replaced.
    real = file.resolve()
    fresh = real.with_name(f".{real.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        fresh.replace(real)
    except BaseException:
        # Half a file is useless, and takes room on a disk that may be full.
        fresh.unlink(missing_ok=True)
        raise
