"""Reads a run's record: the events that all processes which worked on the run have written, and what was spent.

`events.jsonl` is the file of the newest process; each resume renames the file before it to `events.1.jsonl` and so
on. Events that a process took over from an earlier one are repeated in its own file, marked `recorded`, and cost
nothing there. A process that was killed while it copied them has left some in the older files only, so all files are
read.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pylon.errors import UsageError
from pylon.rlm.budget import Cost
from pylon.rlm.runs import Run, checked_events
from pylon.rlm.trajectory import EVENTS, Event, next_number, older_file

type Key = tuple[object, ...]


@dataclass(slots=True)
class OpenAsk:
    """An ask (`charges.py`) whose cost was not final when its process ended: `charged` msat of `most` are known."""

    loop: str
    turn: int
    most: int
    calls: frozenset[str]
    charged: int = 0


@dataclass(slots=True)
class Record:
    """The merged record of a run.

    `begun` is the newest `run` event, `ended` the `final` event of the newest process, if it wrote one. `events` are
    those that still count, by `event_key`, in the order in which they happened; `reusable` are answers, with the
    model that was asked for, of turns that no longer count. `open_asks` are by the name of the ask.

    `spent` and `seconds` sum up all processes; `root_tokens` and `sub_tokens` are the two parts of `spent.tokens`.
    """

    begun: Event = field(default_factory=dict)
    ended: Event | None = None
    events: dict[Key, Event] = field(default_factory=dict)
    reusable: list[tuple[str | None, Event]] = field(default_factory=list)
    open_asks: dict[str, OpenAsk] = field(default_factory=dict)
    spent: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    root_tokens: int = 0
    sub_tokens: int = 0

    @property
    def lost(self) -> int:
        """How many sub-calls were sent and never returned."""
        return sum(
            event["kind"] == "llm" and ("returned", event["call"]) not in self.events
            for key, event in self.events.items()
            if key[0] == "submitted"
        )

    def cut(self, loop: str, turn: int, cell: int) -> None:
        """Discards what the loop was told and said from this cell on. Answers to its calls become reusable for equal
        prompts."""
        gone = [key for key, event in self.events.items() if _is_after(event, loop, turn, cell)]
        begun = [self.events[key] for key in gone if key[0] == "submitted"]
        for call in [event["call"] for event in begun if event["kind"] == "rlm"]:
            gone += [key for key, event in self.events.items() if is_inside(event.get("loop", ""), call)]
        removed = {key: self.events.pop(key) for key in dict.fromkeys(gone)}
        for key, event in removed.items():
            sent = removed.get(("submitted", event.get("call")))
            if key[0] == "returned" and "code" not in event and sent is not None and sent["kind"] == "llm":
                self.reusable.append((sent["model"], event))


def read_record(run: Run) -> Record:
    """Reads all files of a run. Raises `UsageError` for a run that never began, and at an event that Pylon did not
    write as it stands."""
    record = Record()
    for path in files_of(run.folder):
        _add_file(record, checked_events(path))
    if not record.begun:
        raise UsageError(f"run {run.id} ended before it began", hint="`pylon rlm list` shows the stored runs.")
    return record


def files_of(folder: Path) -> list[Path]:
    """The files of events of a run, one for each process, oldest first."""
    return [older_file(folder, number) for number in range(1, next_number(folder))] + [folder / EVENTS]


def is_inside(loop: str, call: str) -> bool:
    """Whether a loop is the one that this call began, or a loop inside that."""
    return loop == call or loop.startswith(f"{call}/")


def event_key(event: Mapping[str, Any]) -> Key | None:
    """What identifies an event: its type and place in the run. None for types that a resume does not take over."""
    match event["type"]:
        case "loop":
            return "loop", event["loop"]
        case "turn" if not event["last"]:
            return "turn", event["loop"], event["turn"]
        case "shown" | "budget":
            return event["type"], event["loop"], event["turn"]
        case "cell":
            return "cell", event["loop"], event["turn"], event["cell"]
        case "submitted" | "repeated" | "returned":
            return event["type"], event["call"]
    return None


def _is_after(event: Event, loop: str, turn: int, cell: int) -> bool:
    """Whether an event came from this cell of the loop or later."""
    if event.get("loop") != loop or "turn" not in event:
        return False
    kind, at = event["type"], event["turn"]
    if kind == "cell":
        return bool((at, event["cell"]) >= (turn, cell))
    return bool(at > turn or (at == turn and kind in ("shown", "budget")))


def _add_file(record: Record, events: Iterable[Event]) -> None:
    """Adds the events of one process; files have to come oldest first."""
    started = last = None
    total, snapshot = record.spent, Cost()
    asks: dict[tuple[str, int], str] = {}
    record.ended = None
    for event in events:
        if event["type"] == "run":
            record.begun = event
            started = (event.get("before") or event)["at"]
        if event["type"] == "cut":
            record.cut(event["loop"], event["turn"], event["cell"])
        elif (key := event_key(event)) is not None:
            record.events[key] = event
        if event.get("recorded"):
            continue
        last = event["at"] if event["type"] != "run" else last
        total += _cost(record, event)
        if event["type"] in ("budget", "final"):
            snapshot = Cost(*(event["spent"].get(one.name, 0) for one in fields(Cost)))
        if event["type"] == "final":
            # Runs of before there were hints have none.
            record.ended = {"hint": "", **event}
        _note_ask(record, event, asks)
    # A turn of the root that failed counts in the budget but has no event of its own, so the sum of the events may be
    # less than what the last `budget` event says.
    record.spent = Cost(*(max(pair) for pair in zip(_fields(total), _fields(snapshot), strict=True)))
    if started is not None and last is not None:
        record.seconds += max(0.0, last - started)


def _fields(cost: Cost) -> tuple[int, int, int, int]:
    return cost.msat, cost.calls, cost.tokens, cost.turns


def _cost(record: Record, event: Event) -> Cost:
    """What an event says was spent; adds its tokens to the record's two sums."""
    match event["type"]:
        case "turn":
            tokens = event["prompt_tokens"] + event["completion_tokens"]
            record.root_tokens += tokens
            return Cost(event["msat"], 0, tokens, 1)
        case "charged":
            return Cost(event["msat"])
        case "submitted":
            return Cost(calls=1)
        case "returned" if "code" not in event:
            # The answer of a child loop has no tokens of its own: those of its turns and calls are counted.
            tokens = event.get("tokens", 0)
            record.sub_tokens += tokens
            return Cost(event["msat"], 0, tokens)
    return Cost()


def _note_ask(record: Record, event: Event, asks: dict[tuple[str, int], str]) -> None:
    """Keeps `record.open_asks` up to date. `asks` names the ask of a root's turn, by loop and turn."""
    match event["type"]:
        case "reserved":
            calls = frozenset(event["calls"])
            record.open_asks[event["ask"]] = OpenAsk(event["loop"], event["turn"], event["msat"], calls)
            if not event["calls"]:
                asks[event["loop"], event["turn"]] = event["ask"]
        case "settled":
            record.open_asks.pop(event["ask"], None)
        case "charged" if event.get("ask") in record.open_asks:
            record.open_asks[event["ask"]].charged += event["msat"]
        case "turn" if (ask := record.open_asks.get(asks.get((event["loop"], event["turn"]), ""))) is not None:
            ask.charged += event["msat"]
        case "returned" if "code" not in event:
            for ask in record.open_asks.values():
                if event["call"] in ask.calls:
                    ask.charged += event["msat"]


def refused_calls(record: Record) -> Iterator[tuple[str, Event, int]]:
    """The calls that failed, and those of child loops that had to end early: the error code of the call or the reason
    why the loop ended, the `returned` event, and which cell of its turn made the call."""
    cells: dict[tuple[str, int], int] = {}
    for key, event in list(record.events.items()):
        where = (event["loop"], event.get("turn", 0))
        if key[0] == "cell":
            cells[where] = cells.get(where, 0) + 1
        elif key[0] == "returned" and (why := event.get("code") or event.get("reason")):
            yield why, event, cells.get(where, 0)
