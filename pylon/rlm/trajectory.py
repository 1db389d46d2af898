"""Writes the trajectory of a run: one JSON object a line, appended and never changed.

    runs/<id>/events.jsonl      what happened, in order; docs/rlm.md has the fields
    runs/<id>/events.1.jsonl    the events of the process before, if the run was resumed (`record.py` reads them)
    runs/<id>/blobs/<sha256>    texts by their hash: prompts, replies, code, output, and the context if it is kept

An event refers to a text by hash, length and beginning. Each line is one write, so a process that is killed leaves at
most a torn last line. The same holds for a full disk: nothing is written after the torn line, and the run ends.
Nothing is flushed to the disk, which would take ten times as long as writing a small text. After a power cut a text
may be shorter than its event says, so readers that need all of it compare the hash.
"""

import errno
import fcntl
import hashlib
import os
import time
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

# `Run.live` holds the lock for microseconds, so this waits long enough for any number of readers.
_LOCK_TRIES = 100
_LOCK_PAUSE_S = 0.01

# Events that cost something, and the last one. A resumed run has done nothing that must be kept before one of these.
_COMMITTING = {"submitted", "reserved", "turn", "charged", "final"}

type Event = dict[str, Any]
type Listener = Callable[[Event], None]


class TrajectoryError(PylonError):
    """The trajectory of a run cannot be written. The run ends, since nothing it did would be recorded."""


class Trajectory:
    """The writer of one run. It holds a lock on the file of events as long as the run lasts, however it ends.

    `count` is the number of events written. `fault` is why one could not be written; from then on all writes raise
    it. `draft` tells that the new file of a resumed run has not replaced the old one yet. `most_bytes` bounds the
    size of the whole trajectory for callers that `claim` room before they write; `full` tells that one was refused.
    """

    def __init__(self, folder: Path, clock: Clock, listener: Listener | None = None) -> None:
        """Begins a new run: makes its folder. Raises `TrajectoryError`."""
        self._begin(folder, clock, listener)
        with self.writing():
            self._blobs.mkdir(mode=0o700, parents=True)
            folder.chmod(0o700)
            self._file = _opened(folder / EVENTS)

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
    def resume(cls, folder: Path, clock: Clock, listener: Listener | None = None) -> Self:
        """The writer of a run that is resumed. Its files stay as they are until something is asked, or the run ends:
        then a new file of events takes the place of the old one, which is renamed to the next `older_file`.

        Raises `UsageError` while another process is writing the run or where the run's folder is damaged, and
        `TrajectoryError`.
        """
        self = cls.__new__(cls)
        self._begin(folder, clock, listener)
        with self.writing():
            old = os.open(folder / EVENTS, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if not _locked(old) or not os.path.samestat(os.fstat(old), (folder / EVENTS).stat()):
                    raise UsageError(
                        f"run {self.id} is still running",
                        hint=f"`pylon rlm show {self.id} --follow` shows its progress.",
                    )
                self._make_blobs()
                self._taken = _size(folder)
                # A draft here was left by a process that was killed: it held the lock that is ours now.
                self._draft.unlink(missing_ok=True)
                self._file = _opened(self._draft)
            except BaseException:
                os.close(old)
                raise
            self._before = old, older_file(folder, next_number(folder))
        return self

    def _make_blobs(self) -> None:
        """Makes the folder of texts if it is missing, so that readers can say which text they lack. Raises
        `UsageError` where something else has its name."""
        try:
            self._blobs.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            raise UsageError(
                f"{self._blobs} is not a folder, so the texts of run {self.id} are missing",
                hint="Restore that folder from a backup, or ask the question again.",
            ) from None

    @property
    def draft(self) -> bool:
        """Whether the new file of a resumed run has not replaced the old one yet."""
        return self._before is not None

    @property
    def _draft(self) -> Path:
        return self.folder / f"{EVENTS}.part"

    def _take_place(self) -> None:
        """Puts the new file of a resumed run in place of the old one, atomically."""
        if self._before is not None:
            old, before = self._before
            with self.writing():
                before.unlink(missing_ok=True)
                before.hardlink_to(self.folder / EVENTS)
                self._draft.replace(self.folder / EVENTS)
            self._before = None
            os.close(old)

    def write(self, kind: str, /, **fields: Any) -> Event:
        """Appends an event, with its number `n` from 0 and the time `at` in Unix seconds. Raises
        `TrajectoryError`."""
        if kind in _COMMITTING:
            self._take_place()
        return self._append({"n": self.count, "at": round(self._clock.wall(), 3), "type": kind, **fields})

    def copy(self, event: Event, /, **others: Any) -> None:
        """Appends an event that an earlier process wrote, with its own time, marked `recorded`; `others` replace some
        of its fields. Raises `TrajectoryError`."""
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
        """Keeps a text, and returns the reference to it for an event. Raises `TrajectoryError`."""
        named = text_ref(text)
        if named["sha256"] not in self._known:
            with self.writing():
                _write_blob(self.blob(named["sha256"]), data := _bytes(text))
            self._taken += len(data)
            self._known.add(named["sha256"])
        return named

    def claim(self, size: int) -> int | None:
        """Reserves room for a text of `size` bytes, to be given back by `release` when it is written or dropped.
        Returns None, or the bytes that are left if they are too few."""
        if self.most_bytes is not None and self._taken + size > self.most_bytes:
            self.full = True
            return max(0, self.most_bytes - self._taken)
        self._taken += size
        return None

    def release(self, size: int) -> None:
        """Gives back claimed room: the text is written, and counted by that, or will not be written."""
        self._taken -= size

    def blob(self, sha256: str) -> Path:
        """The path of the text with that hash."""
        return self._blobs / sha256

    def close(self) -> None:
        """Ends the writing and releases the lock. Later writes raise `TrajectoryError`."""
        # The descriptor's number will soon be another file's.
        file, self._file = self._file, -1
        os.close(file)
        if self._before is not None:
            # The resumed run did nothing that must be kept.
            self._draft.unlink(missing_ok=True)
            os.close(self._before[0])
            self._before = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context for writing into the run's folder: turns an OSError within it into a `TrajectoryError`."""
        if self.fault is not None:
            # The last line may be torn, and nothing may follow it.
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
    """Bytes of all events and texts of a run."""
    return sum(path.stat().st_size for path in (*folder.glob("*.jsonl"), *(folder / BLOBS).iterdir()))


def older_file(folder: Path, number: int) -> Path:
    """The path of the events of a run's `number`th process, from 1, after a later process has resumed the run."""
    return folder / f"{EVENTS.removesuffix('.jsonl')}.{number}.jsonl"


def next_number(folder: Path) -> int:
    """The number of the process whose events are in the run's current file."""
    number = 1
    # A process that was killed while it replaced the file may have left the current file with two names.
    while (path := older_file(folder, number)).exists() and not path.samefile(folder / EVENTS):
        number += 1
    return number


def text_ref(text: str) -> dict[str, Any]:
    """The reference to a text for an event: `sha256`, `chars` and `preview`. Does not keep the text."""
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


def _opened(path: Path) -> int:
    """Opens a new file for appending, and locks it. Raises OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if not _locked(file):
        os.close(file)
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path))
    return file


def _locked(file: int) -> bool:
    """Locks a file for its writer; False if another writer holds the lock. Waits for `Run.live`, which shares the
    lock for an instant."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not _is_shared(file):
                return False
            time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


def _is_shared(file: int) -> bool:
    """Whether the lock that keeps a writer out is only shared, by readers."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
