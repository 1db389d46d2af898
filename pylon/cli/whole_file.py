"""A file that a command writes: whole, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(file: Path) -> Iterator[TextIO]:
    """A stream to it, in UTF-8 and with line ends as they are given. In its place nothing half-written ever stands:
    what was there stays until all is written. Raises `OSError`."""
    if file.exists() and not file.is_file():
        # A pipe or a terminal is written to, not put away for a file.
        with file.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    # A link stays one.
    real = file.resolve()
    fresh = real.with_name(f".{real.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        fresh.replace(real)
    except BaseException:
        # Half of it on a disk that is full is of no use to anybody.
        fresh.unlink(missing_ok=True)
        raise
