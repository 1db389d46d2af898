"""Runs the cells of a loop in its REPL, records them, and keeps what they leave as a possible answer."""

import asyncio
from dataclasses import asdict

from pylon.errors import SandboxError
from pylon.rlm.budget import Bound, Refusal
from pylon.rlm.loop_state import LoopEnd, LoopState, Reason, out_of_budget
from pylon.rlm.parsing import Final
from pylon.rlm.repl.protocol import Answer, CellOutcome, Repl, UnknownVariableError

# After the run's time is up a cell is ended by its sandbox. If it still runs after this time, the sandbox is lost.
_GRACE_S = 3.0


class Cells:
    """Runs the cells of one loop.

    `answer` is the last value of the REPL's variable `answer`, or of a variable that was named as the answer; `lacks`
    is why it is partial. `printed` is the last output of a cell. `variables` are those that the code has made, with
    their types. All are empty at first.
    """

    def __init__(self, state: LoopState, repl: Repl) -> None:
        self.answer = ""
        self.lacks = ""
        self.printed = ""
        self.variables: dict[str, str] = {}
        self._state = state
        self._repl = repl

    async def run(self, number: int, code: str) -> CellOutcome:
        """Runs one block of code, the `number`th of its turn from 0. Raises `LoopEnd` when the time is up, the
        sandbox is lost, or the code of a resumed run behaves differently from what is recorded."""
        state, text = self._state, self._state.trajectory.text
        started = state.clock.monotonic()
        wall = state.left().wall_s
        if wall == 0:
            raise _time_is_up()
        recorded, at = state.recorded, (state.task.name, state.turn, number)
        recorded.enter_cell(*at)
        try:
            async with asyncio.timeout(None if wall is None else wall + _GRACE_S):
                outcome = await self._repl.run(code, seconds=wall)
        except TimeoutError:
            raise _time_is_up() from None
        except SandboxError as error:
            raise LoopEnd(Reason.SANDBOX, str(error)) from error
        if outcome.answer is not None:
            over = outcome.error.text if outcome.error is not None and outcome.error.kind == "calls" else ""
            self.answer = outcome.answer.content
            self.lacks = "; ".join(filter(None, (outcome.answer.partial, over)))
        self.printed = outcome.stdout.strip() or self.printed
        self.variables = {variable.name: variable.type for variable in outcome.variables}
        was = recorded.cell(*at, outcome)
        if recorded.fault is not None:
            raise LoopEnd(Reason.INTERRUPTED, str(recorded.fault), in_vain=True)
        if was is not None:
            state.copy(was)
            return outcome
        state.write(
            "cell", cell=number, code=text(code), stdout=text(outcome.stdout), stderr=text(outcome.stderr),
            truncated=outcome.truncated, error=None if outcome.error is None else asdict(outcome.error),
            seconds=round(outcome.seconds, 3), wall_s=round(state.clock.monotonic() - started, 3),
            answer=None if outcome.answer is None else self._row(outcome.answer),
            variables=[asdict(variable) for variable in outcome.variables],
        )  # fmt: skip
        return outcome

    async def value(self, final: Final) -> str | None:
        """The value, as text, of the variable that a FINAL names, or None if there is none. Raises `SandboxError`."""
        if not final.variable:
            return None
        if final.variable == "answer":
            # Its initial value is empty, which is no answer.
            return self.answer or None
        wall = self._state.left().wall_s
        try:
            # Its `__str__` is the code's own, and may take any time. The last turn comes when the time is up.
            value = await self._repl.value(final.variable, seconds=None if wall is None else wall + _GRACE_S)
        except UnknownVariableError:
            return None
        self.answer, self.lacks = value.content, value.partial or self.lacks
        return value.content

    def _row(self, answer: Answer) -> dict[str, object]:
        content = self._state.trajectory.text(answer.content)
        return {"ready": answer.ready, "partial": answer.partial, "content": content}


def _time_is_up() -> LoopEnd:
    return out_of_budget(Refusal(Bound.WALL, 0, 0))
