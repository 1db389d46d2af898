"""Runs that are kept: list them, read their trajectories, follow one that is under way, let old ones go."""

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
from pylon.rlm.progress import Tally
from pylon.rlm.trajectory import BLOBS, EVENTS, Event, name_of

LOOK_S = 0.2
# Stands behind the beginning of a text that is shown in place of all of it.
CUT = "… [the rest of this text is not kept]"


def new_run(folder: Path, wall: float) -> Path:
    """A folder for a run that starts now; names sort by time."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(wall))
    return folder / f"{stamp}-{secrets.token_hex(3)}"


def run_ids(folder: Path) -> list[str]:
    """All runs, the newest first."""
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
        """Its events; a last line that was torn is left out."""
        return events_of(self.folder / EVENTS)

    def sound_events(self) -> Iterator[Event]:
        """See `sound_events`."""
        return sound_events(self.folder / EVENTS)

    def follow(self) -> Iterator[Event]:
        """Its events as they come, until no process writes it any more. Blocks between them. Where the run is taken
        up, what the new process does comes next, without what it took over."""
        lines: BinaryIO = (self.folder / EVENTS).open("rb")
        taken_up = False
        try:
            while True:
                # Asked first: what is written before the process ends, or another takes over, is still read below.
                live, newer = self.live, self._newer(lines)
                for event in _whole_lines(lines):
                    if not (taken_up and event.get("recorded")):
                        yield event
                if newer is not None:
                    lines.close()
                    lines, taken_up = newer, True
                elif not live:
                    return
                else:
                    time.sleep(LOOK_S)
        finally:
            lines.close()

    def _newer(self, lines: BinaryIO) -> BinaryIO | None:
        """The file of a process that took the run up since these were opened."""
        try:
            newer = (self.folder / EVENTS).open("rb")
        except OSError:
            # Somebody deletes the run.
            return None
        if os.path.sameopenfile(lines.fileno(), newer.fileno()):
            newer.close()
            return None
        return newer

    def text(self, ref: dict[str, Any]) -> str:
        """The text that an event names, for people: where it is not kept as it was, its beginning, marked as such."""
        if (text := self.whole_text(ref)) is not None:
            return text
        return f"{ref['preview']}{CUT}"

    def whole_text(self, ref: dict[str, Any]) -> str | None:
        """The text that an event names, to the last byte; None where that is not kept."""
        try:
            data = self.blob(ref).read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() == ref["sha256"]:
            return data.decode("utf-8", "replace")
        # A short one stands in the event itself.
        beginning = str(ref["preview"])
        return beginning if name_of(beginning)["sha256"] == ref["sha256"] else None

    def keeps(self, ref: dict[str, Any]) -> bool:
        """Whether that is kept."""
        return self.whole_text(ref) is not None

    def needed(self, ref: dict[str, Any], what: str) -> str:
        """The same of a text that nothing goes on without: `what` it is. Raises `UsageError`."""
        if (text := self.whole_text(ref)) is not None:
            return text
        raise UsageError(
            f"{what} of run {self.id} is missing or damaged: {self.blob(ref)}",
            hint="Restore that file from a backup, or ask the question again.",
        )

    def blob(self, ref: dict[str, Any]) -> Path:
        """Where the text that an event names lies."""
        return self.folder / BLOBS / str(ref["sha256"])

    def whole(self, event: Event) -> Event:
        """An event with the texts that it names, in full, in place of their hashes."""
        return {
            name: self.text(value) if isinstance(value, dict) and "sha256" in value and "preview" in value else value
            for name, value in event.items()
        }

    @property
    def begun(self) -> bool:
        """Whether anything is written of it."""
        return (self.folder / EVENTS).is_file()

    @property
    def live(self) -> bool:
        """Whether a process is writing it now."""
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
    """The events that are there by now; one that is being written is left for the next time."""
    while line := lines.readline():
        if not line.endswith(b"\n"):
            lines.seek(-len(line), os.SEEK_CUR)
            return
        if (event := _event(line)) is not None:
            yield event


def events_of(path: Path) -> Iterator[Event]:
    """The events of one file; a last line that was torn is left out."""
    with path.open("rb") as lines:
        for line in lines:
            event = _event(line)
            if event is not None:
                yield event


def sound_events(path: Path) -> Iterator[Event]:
    """The same, for whoever goes on from them. Raises `UsageError` at the first that does not hold what it must."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            event = _event(line)
            if event is None and not line.endswith(b"\n"):
                # It was torn.
                return
            wrong = "is no event" if event is None else event_shapes.fault(event)
            if event is None or wrong:
                raise UsageError(
                    f"{path}, line {number} is not what Pylon wrote: {wrong}",
                    hint="Restore that file from a backup, or ask the question again.",
                )
            yield event


def find_run(folder: Path, name: str) -> Run:
    """The run of that id, of an id that starts so, or the newest for `last`. Raises `UsageError`."""
    ids = run_ids(folder)
    if not ids:
        raise UsageError("there are no stored runs yet", hint="Start one with `pylon rlm`.")
    found = ids[:1] if name == "last" else [run for run in ids if run.startswith(name)]
    if len(found) == 1 or name in found:
        return Run(folder / (name if name in found else found[0]))
    what = "several runs start" if found else "no run starts"
    raise UsageError(f"{what} with {name!r}", hint="`pylon rlm list` shows the stored runs.")


def summary(run: Run) -> dict[str, Any]:
    """What a list shows of a run. `spent` is there once it has ended."""
    row: dict[str, Any] = {"id": run.id, "state": "running" if run.live else "died", "question": ""}
    row |= {"answer": None, "partial": None, "reason": None, "spent": None}
    tally = Tally()
    for event in run.events():
        tally.add(event)
        match event["type"]:
            case "run":
                row |= {"at": event["at"], "question": event["question"]["preview"], "strategy": event["strategy"]}
            case "final":
                answer = event["answer"]
                row |= {"state": "ended", "partial": event["partial"], "reason": event["reason"]}
                row |= {"spent": event["spent"]}
                row["answer"] = None if answer is None else answer["preview"]
    return {**row, **tally.counts}


def answer_of(run: Run) -> str | None:
    """The answer of a run; None where it has none, or has not ended. Raises `UsageError` where part of it is lost."""
    for event in run.events():
        if event["type"] == "final" and event["answer"] is not None:
            return run.needed(event["answer"], "the answer")
    return None


def prune(folder: Path, keep: int) -> int:
    """Lets the oldest runs go until `keep` are left; how many went. Runs under way stay."""
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
