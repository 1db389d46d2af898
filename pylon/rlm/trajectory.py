"""The trajectory of a run, as it is written: one JSON object a line, appended and never changed.

    runs/<id>/events.jsonl      what happened, in order; docs/rlm.md has the fields
    runs/<id>/blobs/<sha256>    texts by their hash: prompts, replies, code, output, and the context where it is kept

An event names a text by hash, length and the start of it. A line is one write, so a process that is killed leaves at
most its last line torn, and what came before stands. So it is where the disk was full: nothing more is written then,
and the run ends.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from pylon.clock import Clock
from pylon.errors import PylonError, refusal

PREVIEW_CHARS = 160
EVENTS = "events.jsonl"
BLOBS = "blobs"

type Event = dict[str, Any]
type Listener = Callable[[Event], None]


class TrajectoryError(PylonError):
    """A run's trajectory cannot be written, and a run that is not written down does not go on."""


class Trajectory:
    """The writer of one run. It holds a lock on its file as long as the run lasts, however that ends.

    `count` is the number of its events. `fault` is why one could not be written; from then on everything raises it.
    """

    def __init__(self, folder: Path, clock: Clock, listener: Listener | None = None) -> None:
        """Makes the folder. Raises `TrajectoryError`."""
        self.folder = folder
        self.id = folder.name
        self._clock = clock
        self._listener = listener
        self._blobs = folder / BLOBS
        self._known: set[str] = set()
        self.count = 0
        self.fault: TrajectoryError | None = None
        with self.writing():
            self._blobs.mkdir(mode=0o700, parents=True)
            folder.chmod(0o700)
            self._file = os.open(folder / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, kind: str, /, **fields: Any) -> Event:
        """Appends an event; `n` counts them, `at` is the time in Unix seconds. Raises `TrajectoryError`."""
        event = {"n": self.count, "at": round(self._clock.wall(), 3), "type": kind, **fields}
        line = orjson.dumps(event) + b"\n"
        with self.writing():
            _write_all(self._file, line)
        self.count += 1
        if self._listener is not None:
            self._listener(event)
        return event

    def text(self, text: str) -> dict[str, Any]:
        """Keeps a text, and gives what an event says of it. Raises `TrajectoryError`."""
        named = name_of(text)
        if named["sha256"] not in self._known:
            with self.writing():
                _write_blob(self.blob(named["sha256"]), _bytes(text))
            self._known.add(named["sha256"])
        return named

    def blob(self, sha256: str) -> Path:
        """Where the text of that hash lies."""
        return self._blobs / sha256

    def close(self) -> None:
        """The run has ended. Whoever writes all the same gets a `TrajectoryError`."""
        # The number is soon another file's.
        file, self._file = self._file, -1
        os.close(file)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is put into the run's folder in it. Raises `TrajectoryError` where that fails."""
        if self.fault is not None:
            # What was torn must stay the last line.
            raise self.fault
        try:
            yield
        except OSError as error:
            self.fault = TrajectoryError(
                f"the trajectory of run {self.id} cannot be written: {refusal(error)}",
                hint=f"Make room where {self.folder} is, or delete old runs beside it; then ask again.",
            )
            raise self.fault from error


def name_of(text: str) -> dict[str, Any]:
    """What an event says of a text, which is not kept for that."""
    sha256 = hashlib.sha256(_bytes(text)).hexdigest()
    return {"sha256": sha256, "chars": len(text), "preview": _bytes(text[:PREVIEW_CHARS]).decode()}


def _bytes(text: str) -> bytes:
    # JSON holds no lone surrogates.
    return text.encode("utf-8", "replace")


def _write_blob(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".part")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(file, data)
    finally:
        os.close(file)
    draft.replace(path)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
