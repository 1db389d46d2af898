"""The trajectory of a run, as it is written: one JSON object a line, appended and never changed.

    runs/<id>/events.jsonl      what happened, in order; docs/rlm.md has the fields
    runs/<id>/blobs/<sha256>    texts by their hash: prompts, replies, code, output, and the context where it is kept

An event names a text by hash, length and the start of it. A line is one write, so a process that is killed leaves at
most its last line torn, and what came before stands.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from pylon.clock import Clock

PREVIEW_CHARS = 160
EVENTS = "events.jsonl"
BLOBS = "blobs"

type Event = dict[str, Any]
type Listener = Callable[[Event], None]


class Trajectory:
    """The writer of one run. It holds a lock on its file as long as the run lasts, however that ends.

    `count` is the number of its events.
    """

    def __init__(self, folder: Path, clock: Clock, listener: Listener | None = None) -> None:
        self.folder = folder
        self.id = folder.name
        self._clock = clock
        self._listener = listener
        self._blobs = folder / BLOBS
        self._blobs.mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        self._known: set[str] = set()
        self.count = 0
        self._file = os.open(folder / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, kind: str, /, **fields: Any) -> Event:
        """Appends an event; `n` counts them, `at` is the time in Unix seconds."""
        event = {"n": self.count, "at": round(self._clock.wall(), 3), "type": kind, **fields}
        self.count += 1
        _write_all(self._file, orjson.dumps(event) + b"\n")
        if self._listener is not None:
            self._listener(event)
        return event

    def text(self, text: str) -> dict[str, Any]:
        """Keeps a text, and gives what an event says of it."""
        data = text.encode("utf-8", "replace")
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._known:
            self._known.add(sha256)
            path = self.blob(sha256)
            file = os.open(path.with_suffix(".part"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write_all(file, data)
            finally:
                os.close(file)
            path.with_suffix(".part").replace(path)
        return {"sha256": sha256, "chars": len(text), "preview": _plain(text[:PREVIEW_CHARS])}

    def blob(self, sha256: str) -> Path:
        """Where the text of that hash lies."""
        return self._blobs / sha256

    def close(self) -> None:
        """The run has ended. Whoever writes all the same gets an `OSError`."""
        # The number is soon another file's.
        file, self._file = self._file, -1
        os.close(file)


def _plain(text: str) -> str:
    # As it is kept: JSON holds no lone surrogates.
    return text.encode("utf-8", "replace").decode()


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
