"""What a run that is taken up has of before: its loops go the recorded way again, and then on.

The root's turns, what it was shown and the outcomes of calls are those of then, and cost nothing; the code runs
again, since no REPL outlives its process. It has to do what it did: where it prints something else, leaves other
variables or asks what it did not ask, the rest of the record was said of something else.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from pylon import log
from pylon.errors import PylonError
from pylon.rlm.budget import Cost
from pylon.rlm.earlier_calls import Asked, EarlierCalls
from pylon.rlm.lives import Lives, OpenAsk, inside, lives_of, refused_by
from pylon.rlm.repl.protocol import CellOutcome
from pylon.rlm.runs import Run
from pylon.rlm.sublm import SubAnswer, SubFailure, SubOutcome
from pylon.rlm.trajectory import Event, name_of

logger = log.get("rlm")


class DiffersError(PylonError):
    """Code of a run that is taken up does something else than it did then."""


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
        self._calls = EarlierCalls(run, self.lives)
        # The cell that each loop is in.
        self._at: dict[str, tuple[int, int]] = {}
        # A loop that is begun by the call of another place is known by its old name.
        self._names: dict[str, str] = {}

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
                    self._calls.reopen(event["call"])
        for loop in list(first):
            # Who began a loop that goes another way has seen what came of it.
            while (call := self.lives.events.get(("submitted", loop))) is not None:
                _earliest(first, call["loop"], (call["turn"], self._calls.cell_of(loop)))
                self._calls.reopen(loop)
                loop = call["loop"]
        for loop, (turn, cell) in first.items():
            self._cut(loop, turn, cell)

    def check(self) -> None:
        """Looks at the texts of the loops that are gone through again. An answer that is not kept as it was counts as
        never come back, and what a root was shown as not shown; of what a root said, or was told at first, nothing
        else can stand in the place: that raises `UsageError`. To be called once, before anything is asked."""
        if (run := self.run) is None:
            return
        events, lost = self.lives.events, 0
        answers = [event for key, event in events.items() if key[0] == "returned" and "code" not in event]
        # Outer ones first: one that is lost has its loop gone through again.
        for event in sorted(answers, key=lambda one: str(one["call"]).count("/")):
            if self._is_gone_through(event["loop"]) and not run.keeps(event["text"]):
                self._calls.lose(event["call"])
                lost += 1
        if lost:
            logger.warning("run %s: answers that are missing or damaged, and are asked for again: %d", run.id, lost)
        for key, event in list(events.items()):
            if key[0] not in ("loop", "turn", "shown") or not self._is_gone_through(event["loop"]):
                continue
            if key[0] == "shown":
                if not run.keeps(event["text"]):
                    del events[key]
                continue
            for name in {"system", "opening", "reply"} & set(event):
                self.text(event, name)

    def _is_gone_through(self, loop: str) -> bool:
        """Whether neither a loop has come to an answer nor one that it is in. What failed may be begun once more."""
        outer = [loop, *(loop[:place] for place, char in enumerate(loop) if char == "/")]
        ends = [self.lives.events.get(("returned", one)) for one in outer]
        return all(end is None or "code" in end for end in ends)

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
        asked = self._asked(loop, name, sha256)
        events = self._calls.outcome(asked, model)
        if events:
            return events, outcome_of(self.run, events[-1])
        if asked.whole and not self._calls.was_lost(asked):
            self._differs(loop, "asks what it did not ask")
        return None

    def child(self, loop: str, name: str, sha256: str) -> list[Event] | None:
        """All that was written of the loop that a call began, the call's own events around it. The last one is the
        call's return where it came to that; the loop is gone through again where it did not. None for one that is
        new."""
        asked = self._asked(loop, name, sha256)
        found = self._calls.find(asked, "rlm", None)
        if found is None:
            if asked.whole:
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

    def text(self, event: Event, name: str) -> str:
        """The text that an event of before names by that. Raises `UsageError` where it is not kept as it was."""
        where = f"turn {event['turn']} of loop {event['loop']}" if "turn" in event else f"loop {event['loop']}"
        return "" if self.run is None else self.run.needed(event[name], f"the {name} of {where}")

    def _event(self, *key: Any) -> Event | None:
        kind, name, *rest = key
        return self.lives.events.get((kind, self.called(name), *rest))

    def _asked(self, loop: str, name: str, sha256: str) -> Asked:
        old = self.called(loop)
        turn, _ = self._at.get(loop, (0, 0))
        return Asked(old + name[len(loop) :], old, turn, sha256, self._is_whole(loop))

    def _is_whole(self, loop: str) -> bool:
        """Whether the cell that a loop is in has ended then."""
        return loop in self._at and self._event("cell", loop, *self._at[loop]) is not None

    def _differs(self, loop: str, what: str) -> None:
        turn, cell = self._at[loop]
        if self._go_on:
            self._cut(self.called(loop), turn, cell)
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
        if self._tell is not None:
            self._tell(loop, turn, cell)


def outcome_of(run: Run, event: Event) -> SubOutcome:
    """What a `returned` event tells. Raises `UsageError` where its text is not kept as it was."""
    if "code" in event:
        return SubFailure(event["code"], event["message"], event["attempts"])
    names = {one.name for one in fields(SubAnswer)} - {"text", "verified"}
    values = {name: event[name] for name in names & set(event)}
    text = run.needed(event["text"], f"the answer to {event['call']}")
    return SubAnswer(text, verified=tuple(event["verified"]), **values)


def _earliest(first: dict[str, tuple[int, int]], loop: str, at: tuple[int, int]) -> None:
    first[loop] = min(first.get(loop, at), at)


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
