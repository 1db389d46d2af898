"""The calls of a run that is taken up: which recorded one a call of now is, and what became of that."""

from collections import defaultdict
from dataclasses import dataclass

from pylon.rlm.lives import Lives
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Event

# What a call failed with because its process, its cell or the budget ended. In a cell that has not ended nobody has
# seen that yet.
_ENDED = {"cancelled", "internal", "unreachable"}


@dataclass(slots=True)
class EarlierCall:
    """`sent` None: it never went out. `back` None: it never came back, or, where it is `lost`, what it brought is not
    kept as it was."""

    loop: str
    turn: int
    cell: int
    sent: Event | None = None
    back: Event | None = None
    used: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of now, by the names of then: its own, and its loop's. `whole` tells that its cell had ended."""

    name: str
    loop: str
    turn: int
    sha256: str
    whole: bool


class EarlierCalls:
    """See the module."""

    def __init__(self, run: Run | None, lives: Lives) -> None:
        self._run = run
        self._lives = lives
        self._by_name: dict[str, EarlierCall] = {}
        # By loop, turn and prompt.
        self._alike: defaultdict[tuple[str, int, str], list[EarlierCall]] = defaultdict(list)
        self._spare: dict[tuple[str | None, str], list[Event]] = {}
        self._last: dict[tuple[str | None, str], Event] = {}
        self._index()

    def cell_of(self, name: str) -> int:
        """The cell of its turn that made a call."""
        return self._by_name[name].cell

    def reopen(self, name: str) -> None:
        """A call has not come back any more."""
        self._lives.events.pop(("returned", name), None)
        self._by_name[name].back = None

    def lose(self, name: str) -> None:
        """The same, because what it brought is not kept as it was."""
        self.reopen(name)
        self._by_name[name].lost = True

    def outcome(self, asked: Asked, model: str | None) -> list[Event]:
        """The events of a call to a model, the last of which tells its outcome; none for one that is to be asked."""
        key = (model, asked.sha256)
        found = self.find(asked, "llm", model)
        if found is not None:
            back = found.back
        elif ("repeated", asked.name) in self._lives.events:
            back = self._last.get(key)
        else:
            pool = self._spare.get(key)
            back = pool.pop(0) if pool else None
        if back is None:
            return []
        self._last[key] = back
        return [back] if found is None or found.sent is None else [found.sent, back]

    def find(self, asked: Asked, kind: str, model: str | None) -> EarlierCall | None:
        """The recorded call that this one is: that of its name, or the next one of an equal prompt, since those of a
        cell may be made in another order."""
        for one in self._candidates(asked):
            if one.used or (one.sent is not None and (one.sent["kind"], one.sent["model"]) != (kind, model)):
                continue
            if one.back is None and (kind == "llm" or one.sent is None):
                continue
            if one.back is not None and not asked.whole and _is_asked_anew(one.back.get("code", "")):
                continue
            one.used = True
            return one
        return None

    def was_lost(self, asked: Asked) -> bool:
        """Whether this call was made then, and what it brought is lost: once for each that is."""
        for one in self._candidates(asked):
            if one.lost and not one.used:
                one.used = True
                return True
        return False

    def cut(self, loop: str, turn: int, cell: int) -> None:
        """See `Lives.cut`."""
        self._lives.cut(loop, turn, cell)
        for model, event in self._lives.spare:
            call = self._by_name.get(event["call"])
            if call is not None and not call.used and (self._run is None or self._run.keeps(event["text"])):
                call.used = True
                self._spare.setdefault((model, event["prompt"]["sha256"]), []).append(event)
        self._lives.spare.clear()
        for alike in self._alike.values():
            alike[:] = [one for one in alike if one.turn <= turn or one.loop != loop]

    def _candidates(self, asked: Asked) -> list[EarlierCall]:
        alike = self._alike.get((asked.loop, asked.turn, asked.sha256), [])
        its = self._by_name.get(asked.name)
        return [*(one for one in alike if one is its), *alike]

    def _index(self) -> None:
        cells: defaultdict[tuple[str, int], int] = defaultdict(int)
        for (kind, *_), event in self._lives.events.items():
            if kind == "cell":
                cells[event["loop"], event["turn"]] += 1
            elif kind in ("submitted", "returned"):
                loop, turn, sha256 = event["loop"], event["turn"], event["prompt"]["sha256"]
                if (call := self._by_name.get(event["call"])) is None:
                    call = self._by_name[event["call"]] = EarlierCall(loop, turn, cells[loop, turn])
                    self._alike[loop, turn, sha256].append(call)
                if kind == "submitted":
                    call.sent = event
                else:
                    call.back = event


def _is_asked_anew(code: str) -> bool:
    return code in _ENDED or code.startswith("budget_")
