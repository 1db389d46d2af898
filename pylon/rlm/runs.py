"""The runs on disk: lists them, reads and follows their trajectories, deletes old ones."""

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pylon.errors import UsageError
from pylon.rlm import event_shapes
from pylon.rlm.progress import Tally, told_spent
from pylon.rlm.trajectory import BLOBS, EVENTS, Event, text_ref

LOOK_S = 0.2
# Follows the beginning of a text that is shown because the whole text is not kept.
CUT = "… [the rest of this text is not kept]"


def new_run(folder: Path, wall: float) -> Path:
    """The path for a run that starts at `wall` (Unix seconds); ids sort by time."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(wall))
    return folder / f"{stamp}-{secrets.token_hex(3)}"


def run_ids(folder: Path) -> list[str]:
    """The ids of all runs, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path.parent.name for path in folder.glob(f"*/{EVENTS}")), reverse=True)


@dataclass(frozen=True, slots=True)
class Run:
    """One run on disk."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    def events(self) -> Iterator[Event]:
        """Its events; a torn last line is left out."""
        return events_of(self.folder / EVENTS)

    def checked_events(self) -> Iterator[Event]:
        """See `checked_events`."""
        return checked_events(self.folder / EVENTS)

    def follow(self) -> Iterator[Event]:
        """Its events as they are written, until no process writes the run any more. Blocks between them. If the run
        is resumed meanwhile, the events of the new process follow, without those that it took over."""
        lines: BinaryIO = (self.folder / EVENTS).open("rb")
        resumed = False
        try:
            while True:
                # Checked first, so that what is written just before the process ends, or another one takes over, is
                # still read below.
                live, newer = self.live, self._newer(lines)
                for event in _whole_lines(lines):
                    if not (resumed and event.get("recorded")):
                        yield event
                if newer is not None:
                    lines.close()
                    lines, resumed = newer, True
                elif not live:
                    return
                else:
                    time.sleep(LOOK_S)
        finally:
            lines.close()

    def _newer(self, lines: BinaryIO) -> BinaryIO | None:
        """The file of events of a process that has resumed the run since `lines` was opened, if there is one."""
        try:
            newer = (self.folder / EVENTS).open("rb")
        except OSError:
            # The run was deleted.
            return None
        if os.path.sameopenfile(lines.fileno(), newer.fileno()):
            newer.close()
            return None
        return newer

    def text(self, ref: dict[str, Any]) -> str:
        """The text that an event refers to, for people; if it is missing or damaged, its beginning and a note."""
        if (text := self.whole_text(ref)) is not None:
            return text
        return f"{ref['preview']}{CUT}"

    def whole_text(self, ref: dict[str, Any]) -> str | None:
        """The text that an event refers to, complete and unchanged; None if it is missing or damaged."""
        try:
            data = self.blob(ref).read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() == ref["sha256"]:
            return data.decode("utf-8", "replace")
        # A short text is complete in the event itself.
        beginning = str(ref["preview"])
        return beginning if text_ref(beginning)["sha256"] == ref["sha256"] else None

    def keeps_text(self, ref: dict[str, Any]) -> bool:
        """Whether `whole_text` has the text."""
        return self.whole_text(ref) is not None

    def required_text(self, ref: dict[str, Any], what: str) -> str:
        """As `whole_text`, but raises `UsageError` if the text is missing or damaged; `what` names it there."""
        if (text := self.whole_text(ref)) is not None:
            return text
        raise UsageError(
            f"{what} of run {self.id} is missing or damaged: {self.blob(ref)}",
            hint="Restore that file from a backup, or ask the question again.",
        )

    def blob(self, ref: dict[str, Any]) -> Path:
        """The path of the text that an event refers to."""
        return self.folder / BLOBS / str(ref["sha256"])

    def whole(self, event: Event) -> Event:
        """An event with the full texts in place of the references to them."""
        return {
            name: self.text(value) if isinstance(value, dict) and "sha256" in value and "preview" in value else value
            for name, value in event.items()
        }

    @property
    def begun(self) -> bool:
        """Whether its file of events exists."""
        return (self.folder / EVENTS).is_file()

    @property
    def live(self) -> bool:
        """Whether a process is writing it now. Shares the writer's lock for an instant, which `Trajectory` waits
        for."""
        try:
            file = os.open(self.folder / EVENTS, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False


def _whole_lines(lines: BinaryIO) -> Iterator[Event]:
    """The events up to the end of the file; an incomplete last line is left for the next time."""
    while line := lines.readline():
        if not line.endswith(b"\n"):
            lines.seek(-len(line), os.SEEK_CUR)
            return
        if (event := _event(line)) is not None:
            yield event


def events_of(path: Path) -> Iterator[Event]:
    """The events of one file; lines that are no event, as a torn last one, are left out."""
    with path.open("rb") as lines:
        for line in lines:
            event = _event(line)
            if event is not None:
                yield event


def checked_events(path: Path) -> Iterator[Event]:
    """The events of one file, each checked; a torn last line is left out. Raises `UsageError` at the first event that
    lacks something or is out of place, and if the file cannot be read."""
    hint = "Restore that file from a backup, or ask the question again."
    try:
        with path.open("rb") as lines:
            for place, line in enumerate(lines):
                event = _event(line)
                if event is None and not line.endswith(b"\n"):
                    # A torn last line.
                    return
                wrong = "is no event" if event is None else event_shapes.fault(event, place)
                if event is None or wrong:
                    raise UsageError(f"{path}, line {place + 1} is not what Pylon wrote: {wrong}", hint=hint)
                yield event
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", hint=hint) from error


def find_run(folder: Path, name: str) -> Run:
    """The run with this id, or the only one whose id starts like this; `last` is the newest. Raises `UsageError`."""
    ids = run_ids(folder)
    if not ids:
        raise UsageError("there are no stored runs yet", hint="Start one with `pylon rlm`.")
    found = ids[:1] if name == "last" else [run for run in ids if run.startswith(name)]
    if len(found) == 1 or name in found:
        return Run(folder / (name if name in found else found[0]))
    what = "several runs start" if found else "no run starts"
    raise UsageError(f"{what} with {name!r}", hint="`pylon rlm list` shows the stored runs.")


def summary(run: Run) -> dict[str, Any]:
    """What a list shows of a run. `spent` is None until it has ended."""
    row: dict[str, Any] = {"id": run.id, "state": "running" if run.live else "died", "question": ""}
    row |= {"answer": None, "partial": None, "reason": None, "spent": None}
    tally = Tally()
    for event in run.events():
        tally.add(event)
        match event["type"]:
            case "run":
                row |= {
                    "begun_at": event["at"],
                    "question": event["question"]["preview"],
                    "strategy": event["strategy"],
                }
            case "final":
                answer = event["answer"]
                row |= {"state": "ended", "partial": event["partial"], "reason": event["reason"]}
                row |= {"spent": told_spent(event["spent"])}
                row["answer"] = None if answer is None else answer["preview"]
    return {**row, **tally.counts}


def list_row(run: Run) -> dict[str, Any]:
    """What `summary` returns, or a row whose `state` is "damaged": one bad record must not hide the others."""
    try:
        return summary(run)
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"id": run.id, "state": "damaged", "question": "", "answer": None, "partial": None, **Tally().counts}


def answer_of(run: Run) -> str | None:
    """The answer of a run; None if it has none or has not ended. Raises `UsageError` if the text is missing or
    damaged."""
    for event in run.events():
        if event["type"] == "final" and event["answer"] is not None:
            return run.required_text(event["answer"], "the answer")
    return None


def prune(folder: Path, keep: int) -> int:
    """Deletes the oldest runs beyond the newest `keep`, except those under way. Returns how many were deleted."""
    gone = 0
    for name in run_ids(folder)[keep:]:
        run = Run(folder / name)
        if not run.live:
            shutil.rmtree(run.folder, ignore_errors=True)
            gone += 1
    return gone


def _event(line: bytes) -> Event | None:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and "type" in event else None
