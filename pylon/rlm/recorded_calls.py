"""Matches the calls that a resumed run makes with the recorded ones, so that none is asked and paid twice."""

from collections import defaultdict
from dataclasses import dataclass

from pylon.rlm.record import Record
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Event

# Codes of calls that failed because their process or cell was ended. If the cell is not recorded as ended, the root
# has not seen these failures, and the calls are asked again.
_ENDED = {"cancelled", "internal", "unreachable"}


@dataclass(slots=True)
class RecordedCall:
    """A call in the record. `sent` is its `submitted` event, None if it was never sent; `back` is its `returned`
    event, None if it never returned, or if it is `lost`: the text of its answer is missing or damaged. `used` calls
    are already matched with a call of the resumed run."""

    loop: str
    turn: int
    cell: int
    sent: Event | None = None
    back: Event | None = None
    used: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class CallMade:
    """A call that the resumed run makes, by the names that it and its loop have in the record. `cell_ended` tells
    that its cell is recorded as ended, so that all calls of that cell are in the record."""

    name: str
    loop: str
    turn: int
    sha256: str
    cell_ended: bool


class RecordedCalls:
    """The recorded calls of a run, None for a run that is not resumed."""

    def __init__(self, run: Run | None, record: Record) -> None:
        self._run = run
        self._record = record
        self._by_name: dict[str, RecordedCall] = {}
        # Calls by loop, turn and hash of the prompt.
        self._alike: defaultdict[tuple[str, int, str], list[RecordedCall]] = defaultdict(list)
        # Answers of discarded turns, and the last answer used, by model and hash of the prompt.
        self._reusable: dict[tuple[str | None, str], list[Event]] = {}
        self._last: dict[tuple[str | None, str], Event] = {}
        self._index()

    def cell_of(self, name: str) -> int:
        """Which cell of its turn made a call."""
        return self._by_name[name].cell

    def reopen(self, name: str) -> None:
        """Discards what a call returned, so that it is asked again."""
        self._record.events.pop(("returned", name), None)
        self._by_name[name].back = None

    def lose(self, name: str) -> None:
        """The same for a call whose answer is missing or damaged."""
        self.reopen(name)
        self._by_name[name].lost = True

    def outcome(self, asked: CallMade, model: str | None) -> list[Event]:
        """The recorded events of a call to a model, the last of which has its outcome; empty for a call that has to
        be asked."""
        key = (model, asked.sha256)
        found = self.find(asked, "llm", model)
        if found is not None:
            back = found.back
        elif ("repeated", asked.name) in self._record.events:
            back = self._last.get(key)
        else:
            pool = self._reusable.get(key)
            back = pool.pop(0) if pool else None
        if back is None:
            return []
        self._last[key] = back
        return [back] if found is None or found.sent is None else [found.sent, back]

    def find(self, asked: CallMade, kind: str, model: str | None) -> RecordedCall | None:
        """The recorded call that matches this one: the call of the same name, or else the next with an equal prompt,
        since the calls of a cell may be made in another order."""
        for one in self._candidates(asked):
            if one.used or (one.sent is not None and (one.sent["kind"], one.sent["model"]) != (kind, model)):
                continue
            if one.back is None and (kind == "llm" or one.sent is None):
                continue
            if one.back is not None and not asked.cell_ended and _is_asked_anew(one.back.get("code", "")):
                continue
            one.used = True
            return one
        return None

    def was_lost(self, asked: CallMade) -> bool:
        """Whether this call is recorded but its answer is lost. Each lost call is matched once."""
        for one in self._candidates(asked):
            if one.lost and not one.used:
                one.used = True
                return True
        return False

    def cut(self, loop: str, turn: int, cell: int) -> None:
        """Discards what the loop did from this cell on; see `Record.cut`."""
        self._record.cut(loop, turn, cell)
        for model, event in self._record.reusable:
            call = self._by_name.get(event["call"])
            if call is not None and not call.used and (self._run is None or self._run.keeps_text(event["text"])):
                call.used = True
                self._reusable.setdefault((model, event["prompt"]["sha256"]), []).append(event)
        self._record.reusable.clear()
        for alike in self._alike.values():
            alike[:] = [one for one in alike if one.turn <= turn or one.loop != loop]

    def _candidates(self, asked: CallMade) -> list[RecordedCall]:
        alike = self._alike.get((asked.loop, asked.turn, asked.sha256), [])
        its = self._by_name.get(asked.name)
        return [*(one for one in alike if one is its), *alike]

    def _index(self) -> None:
        cells: defaultdict[tuple[str, int], int] = defaultdict(int)
        for (kind, *_), event in self._record.events.items():
            if kind == "cell":
                cells[event["loop"], event["turn"]] += 1
            elif kind in ("submitted", "returned"):
                loop, turn, sha256 = event["loop"], event["turn"], event["prompt"]["sha256"]
                if (call := self._by_name.get(event["call"])) is None:
                    call = self._by_name[event["call"]] = RecordedCall(loop, turn, cells[loop, turn])
                    self._alike[loop, turn, sha256].append(call)
                if kind == "submitted":
                    call.sent = event
                else:
                    call.back = event


def _is_asked_anew(code: str) -> bool:
    return code in _ENDED or code.startswith("budget_")
