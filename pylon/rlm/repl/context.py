"""The file that becomes `context`, as the two sandboxes' children read it."""

import json
import mmap
from collections.abc import Sequence
from pathlib import Path


def load(kind: str, files: Sequence[tuple[str, str]]) -> object:
    """`files` are pairs of name and path. Bytes that are no UTF-8 become U+FFFD. Raises OSError or ValueError."""
    if kind == "files":
        return {name: _text(Path(path)) for name, path in files}
    ((_, path),) = files
    text = _text(Path(path))
    return json.loads(text) if kind == "json" else text


def _text(path: Path) -> str:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return ""
        # Mapped, not read: only the decoded text is a copy.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return str(data, "utf-8", "replace")
