"""The trajectory of a run, as it is written: one JSON object a line, appended and never changed.

    runs/<id>/events.jsonl      what happened, in order; docs/rlm.md has the fields
    runs/<id>/events.1.jsonl    what stood there before the run was taken up, if it was (`lives.py`)
    runs/<id>/blobs/<sha256>    texts by their hash: prompts, replies, code, output, and the context where it is kept

An event names a text by hash, length and the start of it. A line is one write, so a process that is killed leaves at
most its last line torn, and what came before stands. So it is where the disk was full: nothing more is written then,
and the run ends. Nothing is forced to the disk: that takes ten times as long as a small text does. After a power cut
a text may be shorter than its event says, and whoever goes on from it compares the hash.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import orjson

from pylon.clock import Clock
from pylon.errors import PylonError, UsageError, refusal

PREVIEW_CHARS = 160
EVENTS = "events.jsonl"
BLOBS = "blobs"

# What costs something, and the end: with one of these a run that is taken up goes on.
_GOES_ON = {"submitted", "reserved", "turn", "charged", "final"}

type Event = dict[str, Any]
type Listener = Callable[[Event], None]


class TrajectoryError(PylonError):
    """A run's trajectory cannot be written, and a run that is not written down does not go on."""


class Trajectory:
    """The writer of one run. It holds a lock on its file as long as the run lasts, however that ends.

    `count` is the number of its events. `fault` is why one could not be written; from then on everything raises it.
    `draft` tells that the file of a run that is taken up is not the run's yet. `most_bytes` is what all of it may
    take, for whoever claims room before they write; `full` tells that somebody did not get it.
    """

    def __init__(self, folder: Path, clock: Clock, listener: Listener | None = None) -> None:
        """Makes the folder. Raises `TrajectoryError`."""
        self._begin(folder, clock, listener)
        with self.writing():
            self._blobs.mkdir(mode=0o700, parents=True)
            folder.chmod(0o700)
            self._file = self._locked(folder / EVENTS)

    def _begin(self, folder: Path, clock: Clock, listener: Listener | None) -> None:
        self.folder = folder
        self.id = folder.name
        self._clock = clock
        self._listener = listener
        self._blobs = folder / BLOBS
        self._known: set[str] = set()
        self._before: tuple[int, Path] | None = None
        self.most_bytes: int | None = None
        self.full = False
        self._taken = 0
        self.count = 0
        self.fault: TrajectoryError | None = None

    @classmethod
    def again(cls, folder: Path, clock: Clock, listener: Listener | None = None) -> Self:
        """The writer of a run that is taken up, in the folder that it has. What stands there stays as it is until
        something is asked, or the run comes to an end: then the new file takes its place, and the old one gets the
        next `older_file`'s name. Raises `UsageError` where a process is writing the run, and `TrajectoryError`."""
        self = cls.__new__(cls)
        self._begin(folder, clock, listener)
        with self.writing():
            old = os.open(folder / EVENTS, os.O_RDONLY | os.O_CLOEXEC)
            if not _lock(old) or not os.path.samestat(os.fstat(old), (folder / EVENTS).stat()):
                os.close(old)
                raise UsageError(
                    f"run {self.id} is still running", hint=f"`pylon rlm show {self.id} --follow` shows its progress."
                )
            self._taken = _size(folder)
            self._before = old, older_file(folder, next_number(folder))
            # Whoever was killed over one held the lock that is ours now.
            self._draft.unlink(missing_ok=True)
            self._file = self._locked(self._draft)
        return self

    @property
    def draft(self) -> bool:
        """See the class."""
        return self._before is not None

    @property
    def _draft(self) -> Path:
        return self.folder / f"{EVENTS}.part"

    def _locked(self, path: Path) -> int:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def _take_place(self) -> None:
        """The new file becomes the run's, all of it at once."""
        if self._before is not None:
            old, before = self._before
            with self.writing():
                before.unlink(missing_ok=True)
                before.hardlink_to(self.folder / EVENTS)
                self._draft.replace(self.folder / EVENTS)
            self._before = None
            os.close(old)

    def write(self, kind: str, /, **fields: Any) -> Event:
        """Appends an event; `n` counts them, `at` is the time in Unix seconds. Raises `TrajectoryError`."""
        if kind in _GOES_ON:
            self._take_place()
        return self._append({"n": self.count, "at": round(self._clock.wall(), 3), "type": kind, **fields})

    def copy(self, event: Event, /, **others: Any) -> None:
        """Appends an event that an earlier process wrote, as it was but for `others`. Raises `TrajectoryError`."""
        self._append({**event, **others, "n": self.count, "recorded": True})

    def _append(self, event: Event) -> Event:
        line = orjson.dumps(event) + b"\n"
        with self.writing():
            _write_all(self._file, line)
        self.count += 1
        self._taken += len(line)
        if self._listener is not None:
            self._listener(event)
        return event

    def text(self, text: str) -> dict[str, Any]:
        """Keeps a text, and gives what an event says of it. Raises `TrajectoryError`."""
        named = name_of(text)
        if named["sha256"] not in self._known:
            with self.writing():
                _write_blob(self.blob(named["sha256"]), data := _bytes(text))
            self._taken += len(data)
            self._known.add(named["sha256"])
        return named

    def claim(self, size: int) -> int | None:
        """Keeps room for a text of so many bytes until it is written, or given back by `release`. Where there is not
        so much: what is left."""
        if self.most_bytes is not None and self._taken + size > self.most_bytes:
            self.full = True
            return max(0, self.most_bytes - self._taken)
        self._taken += size
        return None

    def release(self, size: int) -> None:
        """What was claimed is written, or will not be."""
        self._taken -= size

    def blob(self, sha256: str) -> Path:
        """Where the text of that hash lies."""
        return self._blobs / sha256

    def close(self) -> None:
        """The run has ended. Whoever writes all the same gets a `TrajectoryError`."""
        # The number is soon another file's.
        file, self._file = self._file, -1
        os.close(file)
        if self._before is not None:
            # Nothing came of it.
            self._draft.unlink(missing_ok=True)
            os.close(self._before[0])
            self._before = None

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
                hint=(f"Free some space on the disk of {self.folder}, or delete old runs there; then ask again."),
            )
            raise self.fault from error


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (*folder.glob("*.jsonl"), *(folder / BLOBS).iterdir()))


def older_file(folder: Path, number: int) -> Path:
    """Where the file of a run's `number`th process lies, from 1, once another has taken the run up."""
    return folder / f"{EVENTS.removesuffix('.jsonl')}.{number}.jsonl"


def next_number(folder: Path) -> int:
    """That of the process whose file is the run's now."""
    number = 1
    # One that was killed while its file took the place of the old one has named that twice.
    while (path := older_file(folder, number)).exists() and not path.samefile(folder / EVENTS):
        number += 1
    return number


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


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
