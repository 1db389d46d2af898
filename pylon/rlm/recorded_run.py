"""Gives the loops of a resumed run what is recorded of it, until the record ends and they go on live.

The root's turns, what it was shown and the outcomes of calls come from the record and cost nothing. The code runs
again, since a REPL does not outlive its process. It has to do what it did before: if it prints something else, leaves
other variables or makes calls that are not recorded, the rest of the record does not belong to it.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from pylon import log
from pylon.errors import PylonError
from pylon.rlm.budget import Cost
from pylon.rlm.record import OpenAsk, Record, is_inside, read_record, refused_calls
from pylon.rlm.recorded_calls import CallMade, RecordedCalls
from pylon.rlm.repl.protocol import CellOutcome
from pylon.rlm.runs import Run
from pylon.rlm.sublm import SubAnswer, SubFailure, SubOutcome
from pylon.rlm.trajectory import Event, text_ref

logger = log.get("rlm")


class DiffersError(PylonError):
    """The code of a resumed run behaves differently from what is recorded."""


class RecordedRun:
    """The recorded side of a run: what its loops and calls had before. Empty for a run that is not resumed.

    Where code behaves differently, with `go_on` the loop continues live from there; otherwise `fault` says where that
    was, and the run has to end.
    """

    def __init__(self, run: Run | None = None, *, go_on: bool = False) -> None:
        """Reads the record. Raises `UsageError` for a run that never began or whose record is damaged."""
        self.run = run
        self.record = Record() if run is None else read_record(run)
        self.fault: DiffersError | None = None
        self._cuts: list[tuple[str, int, int]] = []
        self._on_cut: Callable[[str, int, int], object] | None = None
        self._go_on = go_on
        self._calls = RecordedCalls(run, self.record)
        # The turn and cell that each loop is in, by its name now.
        self._at: dict[str, tuple[int, int]] = {}
        # A call may have another place in its cell than before. Its recorded name, which its loop has too, by the
        # name that it has now.
        self._names: dict[str, str] = {}

    @property
    def spent(self) -> Cost:
        """What all earlier processes of the run spent."""
        return self.record.spent

    @property
    def open_asks(self) -> dict[str, OpenAsk]:
        """Asks whose cost is not final yet, by name."""
        return self.record.open_asks

    def carried_over(self, at: float) -> dict[str, Any] | None:
        """The field `before` of the `run` event: what was spent when the run was resumed, `at` in Unix seconds. None
        for a run that is not resumed."""
        if self.run is None:
            return None
        spent, record = self.spent, self.record
        return {
            "at": at, "seconds": round(record.seconds, 3), "lost": record.lost,
            "spent": {"msat": spent.msat, "calls": spent.calls, "tokens": spent.tokens, "turns": spent.turns},
            "root_tokens": record.root_tokens, "sub_tokens": record.sub_tokens,
        }  # fmt: skip

    def go_back(self, codes: set[str]) -> None:
        """Takes each loop back to the first cell in which a call failed with one of these codes, or a child loop
        ended because of one, as the bounds are higher now. To be called before `check_texts`."""
        first: dict[str, tuple[int, int]] = {}
        for code, event, cell in refused_calls(self.record):
            if code in codes:
                _earliest(first, event["loop"], (event["turn"], cell))
                if "code" not in event:
                    # The call of a child loop that had to end: that loop goes on.
                    self._calls.reopen(event["call"])
        for loop in list(first):
            # A loop that has another outcome now changes what the loops around it have seen.
            while (call := self.record.events.get(("submitted", loop))) is not None:
                _earliest(first, call["loop"], (call["turn"], self._calls.cell_of(loop)))
                self._calls.reopen(loop)
                loop = call["loop"]
        for loop, (turn, cell) in first.items():
            self._cut(loop, turn, cell)

    def check_texts(self) -> None:
        """Checks that the texts which the loops need again are kept intact.

        An answer that is missing or damaged counts as never returned, and what a root was shown as not shown yet.
        Nothing can replace what a root said or was told at first: raises `UsageError` where that is missing or
        damaged. To be called once, before anything is asked. Blocking.
        """
        if (run := self.run) is None:
            return
        events, lost = self.record.events, 0
        answers = [event for key, event in events.items() if key[0] == "returned" and "code" not in event]
        # Outer calls first: if the answer of a child loop is lost, that loop runs again and needs its own texts.
        for event in sorted(answers, key=lambda one: str(one["call"]).count("/")):
            if self._is_gone_through(event["loop"]) and not run.keeps_text(event["text"]):
                self._calls.lose(event["call"])
                lost += 1
        if lost:
            logger.warning("run %s: answers that are missing or damaged, and are asked for again: %d", run.id, lost)
        for key, event in list(events.items()):
            if key[0] not in ("loop", "turn", "shown") or not self._is_gone_through(event["loop"]):
                continue
            if key[0] == "shown":
                if not run.keeps_text(event["text"]):
                    del events[key]
                continue
            for name in {"system", "opening", "reply"} & set(event):
                self.text(event, name)

    def _is_gone_through(self, loop: str) -> bool:
        """Whether a loop runs again: unless it, or a loop around it, has returned an answer. One that failed may be
        begun again."""
        outer = [loop, *(loop[:place] for place, char in enumerate(loop) if char == "/")]
        ends = [self.record.events.get(("returned", one)) for one in outer]
        return all(end is None or "code" in end for end in ends)

    def start(self, on_cut: Callable[[str, int, int], object]) -> None:
        """Starts the resumed run: `on_cut` hears of every loop that leaves the record, and from which turn and cell
        on."""
        self._on_cut = on_cut
        for cut in self._cuts:
            on_cut(*cut)

    def recorded_name(self, name: str) -> str:
        """The name that a loop, or the call that began it, has in the record."""
        return self._names.get(name, name)

    def loop(self, name: str) -> Event | None:
        """The `loop` event of a loop; None, here and below, where it is not recorded."""
        return self._event("loop", name)

    def turn(self, loop: str, turn: int) -> Event | None:
        """The `turn` event: what the root said."""
        return self._event("turn", loop, turn)

    def shown(self, loop: str, turn: int) -> Event | None:
        """The `shown` event: what the root was shown of its turn."""
        return self._event("shown", loop, turn)

    def budget(self, loop: str, turn: int) -> Event | None:
        """The `budget` event after a turn."""
        return self._event("budget", loop, turn)

    def enter_cell(self, loop: str, turn: int, cell: int) -> None:
        """Notes that a cell begins. The cells of a loop run one after the other."""
        self._at[loop] = (turn, cell)

    def cell(self, loop: str, turn: int, cell: int, outcome: CellOutcome) -> Event | None:
        """The `cell` event, if the cell has ended now as it did before; otherwise the loop leaves the record."""
        if (was := self._event("cell", loop, turn, cell)) is None or self.fault is not None:
            return None
        if what := _difference(was, outcome):
            self._differs(loop, what)
            return None
        return was

    def call(self, loop: str, name: str, model: str | None, sha256: str) -> tuple[list[Event], SubOutcome] | None:
        """The recorded events of a sub-call and its outcome; None for a call that has to be asked."""
        if self.run is None:
            return None
        asked = self._call_made(loop, name, sha256)
        events = self._calls.outcome(asked, model)
        if events:
            return events, outcome_of(self.run, events[-1])
        if asked.cell_ended and not self._calls.was_lost(asked):
            self._differs(loop, "asks what it did not ask")
        return None

    def child(self, loop: str, name: str, sha256: str) -> list[Event] | None:
        """The recorded events of an `rlm_query`: those of its call with the events of its loop between them if it
        returned, and otherwise its `submitted` event alone, as the loop runs again. None for a call that is new."""
        asked = self._call_made(loop, name, sha256)
        found = self._calls.find(asked, "rlm", None)
        if found is None:
            if asked.cell_ended:
                self._differs(loop, "begins a loop that it did not begin")
            return None
        if found.sent is None:
            return [found.back] if found.back is not None else None
        old = str(found.sent["call"])
        self._names[name] = old
        if found.back is None:
            return [found.sent]
        within = [event for event in self.record.events.values() if is_inside(event.get("loop", ""), old)]
        return [found.sent, *within, found.back]

    def renamed(self, event: Event, name: str) -> dict[str, str]:
        """New values for the fields of an event that name a loop or call within the loop `name`, where that has
        another name in the record."""
        old = self.recorded_name(name)
        told = {field: event[field] for field in ("loop", "call") if field in event}
        return {field: name + value[len(old) :] for field, value in told.items() if is_inside(value, old)}

    def text(self, event: Event, name: str) -> str:
        """The text in the field `name` of a recorded event. Raises `UsageError` if it is missing or damaged."""
        where = f"turn {event['turn']} of loop {event['loop']}" if "turn" in event else f"loop {event['loop']}"
        return "" if self.run is None else self.run.required_text(event[name], f"the {name} of {where}")

    def _event(self, *key: Any) -> Event | None:
        kind, name, *rest = key
        return self.record.events.get((kind, self.recorded_name(name), *rest))

    def _call_made(self, loop: str, name: str, sha256: str) -> CallMade:
        old = self.recorded_name(loop)
        turn, _ = self._at.get(loop, (0, 0))
        return CallMade(old + name[len(loop) :], old, turn, sha256, self._cell_ended(loop))

    def _cell_ended(self, loop: str) -> bool:
        """Whether the cell that a loop is in is recorded as ended."""
        return loop in self._at and self._event("cell", loop, *self._at[loop]) is not None

    def _differs(self, loop: str, what: str) -> None:
        turn, cell = self._at[loop]
        if self._go_on:
            self._cut(self.recorded_name(loop), turn, cell)
        elif self.fault is None and self.run is not None:
            self.fault = DiffersError(
                f"the code of run {self.run.id} does not do what was recorded: in turn {turn} of "
                f"loop {loop} it {what}",
                hint=(
                    f"`pylon rlm resume {self.run.id} --go-on` continues from that turn, and asks the "
                    "models again for everything after it."
                ),
            )

    def _cut(self, loop: str, turn: int, cell: int) -> None:
        self._calls.cut(loop, turn, cell)
        self._cuts.append((loop, turn, cell))
        if self._on_cut is not None:
            self._on_cut(loop, turn, cell)


def outcome_of(run: Run, event: Event) -> SubOutcome:
    """The outcome in a `returned` event. Raises `UsageError` if its text is missing or damaged."""
    if "code" in event:
        return SubFailure(event["code"], event["message"], event["attempts"])
    names = {one.name for one in fields(SubAnswer)} - {"text", "verified"}
    values = {name: event[name] for name in names & set(event)}
    text = run.required_text(event["text"], f"the answer to {event['call']}")
    return SubAnswer(text, verified=tuple(event["verified"]), **values)


def _earliest(first: dict[str, tuple[int, int]], loop: str, at: tuple[int, int]) -> None:
    first[loop] = min(first.get(loop, at), at)


def _difference(was: Event, outcome: CellOutcome) -> str:
    """What a cell did differently from its `cell` event, in words; empty if it did the same. Of variables the names
    and types are compared, since their values are not recorded in full."""
    kinds = [None if was["error"] is None else was["error"]["kind"], outcome.error and outcome.error.kind]
    if kinds[0] != kinds[1]:
        return f"ends with {kinds[1] or 'no error'}, and ended with {kinds[0] or 'none'}"
    if was["stdout"]["sha256"] != text_ref(outcome.stdout)["sha256"]:
        return "prints something else than it printed"
    if bool(was["answer"] and was["answer"]["ready"]) != bool(outcome.answer and outcome.answer.ready):
        return "comes to an answer at another place than it did"
    made = [(one["name"], one["type"]) for one in was["variables"]]
    if made != [(one.name, one.type) for one in outcome.variables]:
        return "leaves other variables than it left"
    return ""
