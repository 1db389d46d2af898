"""The state of one loop: its task, the turn it is in, and how it ended."""

from dataclasses import asdict, dataclass
from enum import StrEnum

from pylon.clock import Clock
from pylon.rlm import budget_hints
from pylon.rlm.budget import Budget, Left, Refusal
from pylon.rlm.pace import Pace
from pylon.rlm.recorded_run import RecordedRun
from pylon.rlm.root import RootError
from pylon.rlm.settings import LoopSettings
from pylon.rlm.trajectory import Event, Trajectory


class Reason(StrEnum):
    """Why a loop ended."""

    FINAL = "final"
    TURNS = "turns"
    BUDGET = "budget"
    ROOT_FAILED = "root_failed"
    ROOT_SILENT = "root_silent"
    PROGRAM_FAILED = "program_failed"
    NO_CODE = "no_code"
    REPEATED = "repeated"
    SANDBOX = "sandbox"
    INTERRUPTED = "interrupted"


_WORDS = {
    Reason.FINAL: "answer found",
    Reason.TURNS: "out of turns",
    Reason.BUDGET: "over the budget",
    Reason.ROOT_FAILED: "root failed",
    Reason.ROOT_SILENT: "root silent",
    Reason.PROGRAM_FAILED: "program failed",
    Reason.NO_CODE: "no code written",
    Reason.REPEATED: "same code again",
    Reason.SANDBOX: "sandbox failed",
    Reason.INTERRUPTED: "interrupted",
}


def in_words(reason: str) -> str:
    """Why a loop ended, in two or three words for people. A reason that no loop has, as a record may hold, is
    returned as it is."""
    return _WORDS[Reason(reason)] if reason in Reason else reason


@dataclass(frozen=True, slots=True)
class LoopOutcome:
    """How a loop ended. `answer` None: there is not even a partial one. `detail` explains `reason` to people, and
    `hint` says what they can do about it; `fault` is the error that a root failed with."""

    answer: str | None
    partial: bool
    reason: Reason
    turns: int
    detail: str = ""
    hint: str = ""
    fault: RootError | None = None


@dataclass(frozen=True, slots=True)
class LoopTask:
    """What a loop is given. `name` is unique in its run; `question` is None if the context itself says the task;
    `system` and `opening` are the first two messages to its root."""

    name: str
    question: str | None
    system: str
    opening: str
    budget: Budget


class LoopEnd(Exception):  # noqa: N818 - it ends the turns, and is no error
    """Ends a loop that has no answer yet. `in_vain` tells that a last turn would bring none either."""

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        fault: RootError | None = None,
        *,
        hint: str = "",
        in_vain: bool = False,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.fault = fault
        self.hint = hint
        self.in_vain = in_vain


def out_of_budget(refusal: Refusal) -> LoopEnd:
    """The end of a loop whose budget refused something that it cannot do without."""
    return LoopEnd(Reason.BUDGET, refusal.message, hint=budget_hints.raise_hint([refusal.bound]))


class LoopState:
    """A loop under way: `turn` is the current turn, from 1, which all events of the loop name."""

    def __init__(
        self, task: LoopTask, trajectory: Trajectory, clock: Clock, settings: LoopSettings, recorded: RecordedRun
    ) -> None:
        self.turn = 0
        self.task = task
        self.trajectory = trajectory
        self.clock = clock
        self.settings = settings
        self.recorded = recorded
        self.pace = Pace()

    @property
    def budget(self) -> Budget:
        return self.task.budget

    def left(self) -> Left:
        """What may still be spent."""
        return self.budget.left(now=self.clock.monotonic())

    def status(self) -> str:
        """What is left, in one line for the root model; before it a line on how the turn's calls were made, if the
        root should change that."""
        left = self.left()
        parts = [f"turn {self.turn} of {self.settings.turns}"]
        if left.calls is not None:
            parts.append(f"{left.calls:,} sub-calls left")
        if left.msat is not None:
            parts.append(f"{left.msat / 1000:,.3f} sats left")
        if left.tokens is not None:
            parts.append(f"{left.tokens:,} tokens left")
        if left.turns is not None:
            parts.append(f"{left.turns:,} turns of all loops left")
        if left.wall_s is not None:
            parts.append(f"{left.wall_s:.0f} s left")
        return "\n".join(filter(None, (self.pace.said(), f"[{'; '.join(parts)}]")))

    def book(self) -> None:
        """Writes the `budget` event of this turn: what is spent, and what is left."""
        if (was := self.recorded.budget(self.task.name, self.turn)) is not None:
            self.copy(was)
        else:
            self.trajectory.write(
                "budget", loop=self.task.name, turn=self.turn, spent=asdict(self.budget.spent),
                left=asdict(self.left()),
            )  # fmt: skip

    def copy(self, was: Event) -> None:
        """Copies a recorded event of this turn to the trajectory."""
        self.trajectory.copy(was, loop=self.task.name)

    def write(self, kind: str, **fields: object) -> None:
        """Writes an event of this turn."""
        self.trajectory.write(kind, loop=self.task.name, turn=self.turn, **fields)
