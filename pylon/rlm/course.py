"""What a loop is given, where it stands, and how it ends."""

from dataclasses import asdict, dataclass
from enum import StrEnum

from pylon.clock import Clock
from pylon.rlm import raising
from pylon.rlm.budget import Budget, Left, Refusal
from pylon.rlm.earlier import Earlier
from pylon.rlm.pace import Pace
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


@dataclass(frozen=True, slots=True)
class LoopOutcome:
    """`answer` None: there is not even a partial one. `detail` says for people what `reason` cannot, and `hint` what
    they may do about it; `fault` is what a root failed with."""

    answer: str | None
    partial: bool
    reason: Reason
    turns: int
    detail: str = ""
    hint: str = ""
    fault: RootError | None = None


@dataclass(frozen=True, slots=True)
class LoopTask:
    """`name` is unique in its run, `question` None when the task stands in the context itself."""

    name: str
    question: str | None
    system: str
    opening: str
    budget: Budget


class LoopEnd(Exception):  # noqa: N818 - it ends the turns, and is no error
    """No more turns, and no answer: why. `in_vain` tells that a last turn would bring nothing either."""

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
    """The end of a loop whose budget refused what it cannot go on without."""
    return LoopEnd(Reason.BUDGET, refusal.message, hint=raising.more([refusal.bound]))


class Course:
    """Where one loop stands: `turn` is the one under way, from 1. What is written of the loop says so."""

    def __init__(
        self, task: LoopTask, trajectory: Trajectory, clock: Clock, settings: LoopSettings, earlier: Earlier
    ) -> None:
        self.turn = 0
        self.task = task
        self.trajectory = trajectory
        self.clock = clock
        self.settings = settings
        self.earlier = earlier
        self.pace = Pace()

    @property
    def budget(self) -> Budget:
        return self.task.budget

    def left(self) -> Left:
        """What may still be spent."""
        return self.budget.left(now=self.clock.monotonic())

    def status(self) -> str:
        """The same in one line, for the root model, and what there is to say of this turn's calls in another."""
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
        """Writes what is spent after this turn, and what is left."""
        if (was := self.earlier.budget(self.task.name, self.turn)) is not None:
            self.copy(was)
        else:
            self.trajectory.write(
                "budget", loop=self.task.name, turn=self.turn, spent=asdict(self.budget.spent),
                left=asdict(self.left()),
            )  # fmt: skip

    def copy(self, was: Event) -> None:
        """An event of this turn that is written down already."""
        self.trajectory.copy(was, loop=self.task.name)

    def write(self, kind: str, **fields: object) -> None:
        """One event of this turn."""
        self.trajectory.write(kind, loop=self.task.name, turn=self.turn, **fields)
