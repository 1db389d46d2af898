"""What a run that is taken up has of before: its loops go the recorded way again, and then on.

The root's turns, what it was shown and the outcomes of calls are those of then, and cost nothing; the code runs
again, since no REPL outlives its process. It has to do what it did: where it prints something else, leaves other
variables or asks what it did not ask, the rest of the record was said of something else.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from pylon.errors import PylonError
from pylon.rlm.budget import Cost
from pylon.rlm.lives import Lives, OpenAsk, inside, lives_of, refused_by
from pylon.rlm.repl.protocol import CellOutcome
from pylon.rlm.runs import Run
from pylon.rlm.sublm import SubAnswer, SubFailure, SubOutcome
from pylon.rlm.trajectory import Event, name_of

# What a call failed with because its process, its cell or the budget ended. In a cell that has not ended nobody has
# seen that yet.
_ENDED = {"cancelled", "internal", "unreachable"}


class DiffersError(PylonError):
    """Code of a run that is taken up does something else than it did then."""


@dataclass(slots=True)
class _Call:
    """`sent` None: it never went out. `back` None: it never came back."""

    loop: str
    turn: int
    cell: int
    sent: Event | None = None
    back: Event | None = None
    used: bool = False


class Earlier:
    """See the module. Without a run there is nothing of before, and all of it is empty.

    With `go_on` a loop whose code does something else goes on from there by itself; otherwise `fault` says where that
    was, and everything ends.
    """

    def __init__(self, run: Run | None = None, *, go_on: bool = False) -> None:
        """Raises `UsageError` for a run that never began."""
        self.run = run
        self.lives = Lives() if run is None else lives_of(run)
        self.fault: DiffersError | None = None
        self._cuts: list[tuple[str, int, int]] = []
        self._tell: Callable[[str, int, int], object] | None = None
        self._go_on = go_on
        self._calls: dict[str, _Call] = {}
        # By loop, turn and prompt.
        self._alike: defaultdict[tuple[str, int, str], list[_Call]] = defaultdict(list)
        # The cell that each loop is in.
        self._at: dict[str, tuple[int, int]] = {}
        self._spare: dict[tuple[str | None, str], list[Event]] = {}
        self._last: dict[tuple[str | None, str], Event] = {}
        # A loop that is begun by the call of another place is known by its old name.
        self._names: dict[str, str] = {}
        self._index()

    @property
    def spent(self) -> Cost:
        """By all processes together, up to now."""
        return self.lives.spent

    @property
    def open(self) -> dict[str, OpenAsk]:
        """Asks whose cost nobody has told."""
        return self.lives.open

    def before(self, at: float) -> dict[str, Any] | None:
        """For the trajectory: that the run was taken up `at` this time, and what was spent until then."""
        if self.run is None:
            return None
        spent, lives = self.spent, self.lives
        return {
            "at": at, "seconds": round(lives.seconds, 3), "lost": lives.lost,
            "spent": {"msat": spent.msat, "calls": spent.calls, "tokens": spent.tokens, "turns": spent.turns},
            "root_tokens": lives.root_tokens, "sub_tokens": lives.sub_tokens,
        }  # fmt: skip

    def more(self, codes: set[str]) -> None:
        """Goes back, in each loop, to the first cell in which a call was refused with one of these codes: the bounds
        are other ones now. To be called before anything else."""
        first: dict[str, tuple[int, int]] = {}
        for code, event, cell in refused_by(self.lives):
            if code in codes:
                _earliest(first, event["loop"], (event["turn"], cell))
                if "code" not in event:
                    # A loop inside that has not come to its end.
                    self._reopen(event["call"])
        for loop in list(first):
            # Who began a loop that goes another way has seen what came of it.
            while (call := self.lives.events.get(("submitted", loop))) is not None:
                _earliest(first, call["loop"], (call["turn"], self._calls[loop].cell))
                self._reopen(loop)
                loop = call["loop"]
        for loop, (turn, cell) in first.items():
            self._cut(loop, turn, cell)

    def _reopen(self, call: str) -> None:
        self.lives.events.pop(("returned", call), None)
        self._calls[call].back = None

    def begin(self, tell: Callable[[str, int, int], object]) -> None:
        """The run goes on: `tell` hears of every loop that goes another way, from which turn and cell on."""
        self._tell = tell
        for cut in self._cuts:
            tell(*cut)

    def called(self, name: str) -> str:
        """The name of then, of a loop or of the call that began it."""
        return self._names.get(name, name)

    def loop(self, name: str) -> Event | None:
        """The beginning of a loop."""
        return self._event("loop", name)

    def turn(self, loop: str, turn: int) -> Event | None:
        """What the root said."""
        return self._event("turn", loop, turn)

    def shown(self, loop: str, turn: int) -> Event | None:
        """What it was shown for it."""
        return self._event("shown", loop, turn)

    def budget(self, loop: str, turn: int) -> Event | None:
        """What was spent after it."""
        return self._event("budget", loop, turn)

    def enter(self, loop: str, turn: int, cell: int) -> None:
        """A cell begins. Those of a loop do not overlap."""
        self._at[loop] = (turn, cell)

    def cell(self, loop: str, turn: int, cell: int, outcome: CellOutcome) -> Event | None:
        """The cell as it was written down, where it has ended as it did then."""
        if (was := self._event("cell", loop, turn, cell)) is None or self.fault is not None:
            return None
        if what := _difference(was, outcome):
            self._differs(loop, what)
            return None
        return was

    def call(self, loop: str, name: str, model: str | None, sha256: str) -> tuple[list[Event], SubOutcome] | None:
        """What became of a sub-call, and the events that tell it; None for one that is to be asked."""
        if self.run is None:
            return None
        found = self._found(loop, name, "llm", model, sha256)
        if found is not None:
            back = found.back
        elif self._event("repeated", self._old_call(loop, name)) is not None:
            back = self._last.get((model, sha256))
        else:
            pool = self._spare.get((model, sha256))
            back = pool.pop(0) if pool else None
        if back is None:
            if self._is_whole(loop):
                self._differs(loop, "asks what it did not ask")
            return None
        self._last[model, sha256] = back
        sent = None if found is None else found.sent
        return ([back] if sent is None else [sent, back]), outcome_of(self.run, back)

    def child(self, loop: str, name: str, sha256: str) -> list[Event] | None:
        """All that was written of the loop that a call began, the call's own events around it. The last one is the
        call's return where it came to that; the loop is gone through again where it did not. None for one that is
        new."""
        found = self._found(loop, name, "rlm", None, sha256)
        if found is None:
            if self._is_whole(loop):
                self._differs(loop, "begins a loop that it did not begin")
            return None
        if found.sent is None:
            return [found.back] if found.back is not None else None
        old = str(found.sent["call"])
        self._names[name] = old
        if found.back is None:
            return [found.sent]
        within = [event for event in self.lives.events.values() if inside(event.get("loop", ""), old)]
        return [found.sent, *within, found.back]

    def renamed(self, event: Event, name: str) -> dict[str, str]:
        """The fields of an event in the loop that a call began which say the call's name, now that it is `name`."""
        old = self.called(name)
        told = {field: event[field] for field in ("loop", "call") if field in event}
        return {field: name + value[len(old) :] for field, value in told.items() if inside(value, old)}

    def text(self, ref: dict[str, Any]) -> str:
        """The text that an event of before names."""
        return "" if self.run is None else self.run.text(ref)

    def _event(self, *key: Any) -> Event | None:
        kind, name, *rest = key
        return self.lives.events.get((kind, self.called(name), *rest))

    def _old_call(self, loop: str, name: str) -> str:
        return self.called(loop) + name[len(loop) :]

    def _found(self, loop: str, name: str, kind: str, model: str | None, sha256: str) -> _Call | None:
        """The recorded call that this one is: that of its name, or the next one of an equal prompt, since those of a
        cell may be made in another order."""
        old, whole = self.called(loop), self._is_whole(loop)
        alike = self._alike.get((old, self._at.get(loop, (0, 0))[0], sha256), [])
        its = self._calls.get(self._old_call(loop, name))
        for one in [*(one for one in alike if one is its), *alike]:
            if one.used or (one.sent is not None and (one.sent["kind"], one.sent["model"]) != (kind, model)):
                continue
            if one.back is None and (kind == "llm" or one.sent is None):
                continue
            if one.back is not None and not whole and _is_asked_anew(one.back.get("code", "")):
                continue
            one.used = True
            return one
        return None

    def _is_whole(self, loop: str) -> bool:
        """Whether the cell that a loop is in has ended then."""
        return loop in self._at and self._event("cell", loop, *self._at[loop]) is not None

    def _differs(self, loop: str, what: str) -> None:
        turn, cell = self._at[loop]
        if self._go_on:
            self._cut(self.called(loop), turn, cell)
        elif self.fault is None and self.run is not None:
            self.fault = DiffersError(
                f"run {self.run.id} goes another way than is recorded: in turn {turn} of loop {loop} its code {what}",
                hint=f"`pylon rlm resume {self.run.id} --go-on` goes on from that turn, and asks the models anew for"
                " what came after it.",
            )

    def _cut(self, loop: str, turn: int, cell: int) -> None:
        self.lives.cut(loop, turn, cell)
        self._cuts.append((loop, turn, cell))
        if self._tell is not None:
            self._tell(loop, turn, cell)
        for model, event in self.lives.spare:
            call = self._calls.get(event["call"])
            if call is not None and not call.used:
                call.used = True
                self._spare.setdefault((model, event["prompt"]["sha256"]), []).append(event)
        self.lives.spare.clear()
        for alike in self._alike.values():
            alike[:] = [one for one in alike if one.turn <= turn or one.loop != loop]

    def _index(self) -> None:
        cells: defaultdict[tuple[str, int], int] = defaultdict(int)
        for (kind, *_), event in self.lives.events.items():
            if kind == "cell":
                cells[event["loop"], event["turn"]] += 1
            elif kind in ("submitted", "returned"):
                loop, turn, sha256 = event["loop"], event["turn"], event["prompt"]["sha256"]
                if (call := self._calls.get(event["call"])) is None:
                    call = self._calls[event["call"]] = _Call(loop, turn, cells[loop, turn])
                    self._alike[loop, turn, sha256].append(call)
                if kind == "submitted":
                    call.sent = event
                else:
                    call.back = event


def outcome_of(run: Run, event: Event) -> SubOutcome:
    """What a `returned` event tells."""
    if "code" in event:
        return SubFailure(event["code"], event["message"], event["attempts"])
    names = {one.name for one in fields(SubAnswer)} - {"text", "verified"}
    values = {name: event[name] for name in names & set(event)}
    return SubAnswer(run.text(event["text"]), verified=tuple(event["verified"]), **values)


def _earliest(first: dict[str, tuple[int, int]], loop: str, at: tuple[int, int]) -> None:
    first[loop] = min(first.get(loop, at), at)


def _is_asked_anew(code: str) -> bool:
    return code in _ENDED or code.startswith("budget_")


def _difference(was: Event, outcome: CellOutcome) -> str:
    """What a cell did otherwise than it did then; empty where it did the same. What stands in its variables cannot be
    compared, and what they are can."""
    kinds = [None if was["error"] is None else was["error"]["kind"], outcome.error and outcome.error.kind]
    if kinds[0] != kinds[1]:
        return f"ends with {kinds[1] or 'no error'}, and ended with {kinds[0] or 'none'}"
    if was["stdout"]["sha256"] != name_of(outcome.stdout)["sha256"]:
        return "prints something else than it printed"
    if bool(was["answer"] and was["answer"]["ready"]) != bool(outcome.answer and outcome.answer.ready):
        return "comes to an answer at another place than it did"
    made = [(one["name"], one["type"]) for one in was["variables"]]
    if made != [(one.name, one.type) for one in outcome.variables]:
        return "leaves other variables than it left"
    return ""
