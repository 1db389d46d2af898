"""Reads the files that become the variable `context`, in the process sandbox's child."""

import json
import mmap
from collections.abc import Sequence
from pathlib import Path


def load(kind: str, files: Sequence[tuple[str, str]]) -> object:
    """The value of `context`: a text, a dict of texts by name, or what a JSON file holds.

    `kind` is that of `protocol.ContextSource`; `files` are pairs of name and path. Bytes that are not UTF-8 become
    U+FFFD. Raises OSError, and ValueError or RecursionError for what is not JSON.
    """
    if kind == "files":
        return {name: _text(Path(path)) for name, path in files}
    ((_, path),) = files
    text = _text(Path(path))
    return json.loads(text) if kind == "json" else text


def _text(path: Path) -> str:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return ""
        # Mapped instead of read, so that the decoded text is the only copy in memory.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return str(data, "utf-8", "replace")
