"""What the processes that worked on a run have left of it, one after the other: its events, and what was spent.

`events.jsonl` is the newest process's; what stood there before it took the run up is `events.1.jsonl` and so on. What
a process took over from those before stands in its own file again, marked `recorded`, and costs nothing there. One
that was killed while it did that has left the rest in the older files alone: so all of them count.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pylon.errors import UsageError
from pylon.rlm.budget import Cost
from pylon.rlm.runs import Run, sound_events
from pylon.rlm.trajectory import EVENTS, Event, next_number, older_file

type Key = tuple[object, ...]


@dataclass(slots=True)
class OpenAsk:
    """An ask of which nobody had said the last word when its process ended: `charged` msat of `most` are known."""

    loop: str
    turn: int
    most: int
    calls: frozenset[str]
    charged: int = 0


@dataclass(slots=True)
class Lives:
    """`begun` is the newest `run` event, `ended` the newest process's `final`. `events` are those that stand, by what
    they are about, in the order in which they happened; `spare` are answers of a way that the run did not go on.

    `spent` and `seconds` are of all processes together; `root_tokens` and `sub_tokens` are the tokens of `spent`.
    """

    begun: Event = field(default_factory=dict)
    ended: Event | None = None
    events: dict[Key, Event] = field(default_factory=dict)
    spare: list[tuple[str | None, Event]] = field(default_factory=list)
    open: dict[str, OpenAsk] = field(default_factory=dict)
    spent: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    root_tokens: int = 0
    sub_tokens: int = 0

    @property
    def lost(self) -> int:
        """Sub-calls that went out and never came back."""
        return sum(
            event["kind"] == "llm" and ("returned", event["call"]) not in self.events
            for key, event in self.events.items()
            if key[0] == "submitted"
        )

    def cut(self, loop: str, turn: int, cell: int) -> None:
        """From that cell on the loop goes another way: what it was told and said after it does not stand any more,
        and answers that it got are there for equal prompts."""
        gone = [key for key, event in self.events.items() if _behind(event, loop, turn, cell)]
        begun = [self.events[key] for key in gone if key[0] == "submitted"]
        for call in [event["call"] for event in begun if event["kind"] == "rlm"]:
            gone += [key for key, event in self.events.items() if inside(event.get("loop", ""), call)]
        removed = {key: self.events.pop(key) for key in dict.fromkeys(gone)}
        for key, event in removed.items():
            sent = removed.get(("submitted", event.get("call")))
            if key[0] == "returned" and "code" not in event and sent is not None and sent["kind"] == "llm":
                self.spare.append((sent["model"], event))


def lives_of(run: Run) -> Lives:
    """Raises `UsageError` for a run that never began, and where an event is not one that was written."""
    lives = Lives()
    for path in files_of(run.folder):
        _add(lives, sound_events(path))
    if not lives.begun:
        raise UsageError(f"run {run.id} ended before it began", hint="`pylon rlm list` shows the stored runs.")
    return lives


def files_of(folder: Path) -> list[Path]:
    """The files of a run's processes, the oldest first."""
    return [older_file(folder, number) for number in range(1, next_number(folder))] + [folder / EVENTS]


def inside(loop: str, call: str) -> bool:
    """Whether a loop is the one that a call began, or inside it."""
    return loop == call or loop.startswith(f"{call}/")


def key_of(event: Mapping[str, Any]) -> Key | None:
    """What an event is about; None for those that are not taken over."""
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


def _behind(event: Event, loop: str, turn: int, cell: int) -> bool:
    if event.get("loop") != loop or "turn" not in event:
        return False
    kind, at = event["type"], event["turn"]
    if kind == "cell":
        return bool((at, event["cell"]) >= (turn, cell))
    return bool(at > turn or (at == turn and kind in ("shown", "budget")))


def _add(lives: Lives, events: Iterable[Event]) -> None:
    """One more file."""
    started = last = None
    sum_, snapshot = lives.spent, Cost()
    asks: dict[tuple[str, int], str] = {}
    lives.ended = None
    for event in events:
        if event["type"] == "run":
            lives.begun = event
            started = (event.get("before") or event)["at"]
        if event["type"] == "cut":
            lives.cut(event["loop"], event["turn"], event["cell"])
        elif (key := key_of(event)) is not None:
            lives.events[key] = event
        if event.get("recorded"):
            continue
        last = event["at"] if event["type"] != "run" else last
        sum_ += _cost(lives, event)
        if event["type"] in ("budget", "final"):
            snapshot = Cost(*(event["spent"].get(one.name, 0) for one in fields(Cost)))
        if event["type"] == "final":
            lives.ended = event
        _note_ask(lives, event, asks)
    # A turn that failed was one too, and no event tells of it.
    lives.spent = Cost(*(max(pair) for pair in zip(_fields(sum_), _fields(snapshot), strict=True)))
    if started is not None and last is not None:
        lives.seconds += max(0.0, last - started)


def _fields(cost: Cost) -> tuple[int, int, int, int]:
    return cost.msat, cost.calls, cost.tokens, cost.turns


def _cost(lives: Lives, event: Event) -> Cost:
    """What an event says that was spent."""
    match event["type"]:
        case "turn":
            tokens = event["prompt_tokens"] + event["completion_tokens"]
            lives.root_tokens += tokens
            return Cost(event["msat"], 0, tokens, 1)
        case "charged":
            return Cost(event["msat"])
        case "submitted":
            return Cost(calls=1)
        case "returned" if "code" not in event:
            # A loop's answer has none: its turns and calls have.
            tokens = event.get("tokens", 0)
            lives.sub_tokens += tokens
            return Cost(event["msat"], 0, tokens)
    return Cost()


def _note_ask(lives: Lives, event: Event, asks: dict[tuple[str, int], str]) -> None:
    match event["type"]:
        case "reserved":
            calls = frozenset(event["calls"])
            lives.open[event["ask"]] = OpenAsk(event["loop"], event["turn"], event["msat"], calls)
            if not event["calls"]:
                asks[event["loop"], event["turn"]] = event["ask"]
        case "settled":
            lives.open.pop(event["ask"], None)
        case "charged" if event.get("ask") in lives.open:
            lives.open[event["ask"]].charged += event["msat"]
        case "turn" if (ask := lives.open.get(asks.get((event["loop"], event["turn"]), ""))) is not None:
            ask.charged += event["msat"]
        case "returned" if "code" not in event:
            for ask in lives.open.values():
                if event["call"] in ask.calls:
                    ask.charged += event["msat"]


def refused_by(lives: Lives) -> Iterator[tuple[str, Event, int]]:
    """Of every call that got no answer, or that of a loop which had to end: its code, or why that loop ended, its
    event, and the cell of its turn."""
    cells: dict[tuple[str, int], int] = {}
    for key, event in list(lives.events.items()):
        where = (event["loop"], event.get("turn", 0))
        if key[0] == "cell":
            cells[where] = cells.get(where, 0) + 1
        elif key[0] == "returned" and (why := event.get("code") or event.get("reason")):
            yield why, event, cells.get(where, 0)
