"""A loop's cells: each is run in its REPL and written down, and what they leave for an answer is kept."""

import asyncio
from dataclasses import asdict

from pylon.errors import SandboxError
from pylon.rlm.budget import Bound, Refusal
from pylon.rlm.course import Course, LoopEnd, Reason, out_of_budget
from pylon.rlm.parsing import Final
from pylon.rlm.repl.protocol import Answer, CellOutcome, Repl, UnknownVariableError

# A cell that goes on for so long when the run's time is up has lost its sandbox. One that is told of its end in time
# has noticed by then.
_GRACE_S = 3.0


class Cells:
    """`answer` is what the REPL's variable of that name held last, or one that was named as the answer, `lacks` why
    it is partial, `printed` what a cell printed last, `variables` those that code has made, with their types; all are
    empty before that."""

    def __init__(self, course: Course, repl: Repl) -> None:
        self.answer = ""
        self.lacks = ""
        self.printed = ""
        self.variables: dict[str, str] = {}
        self._course = course
        self._repl = repl

    async def run(self, number: int, code: str) -> CellOutcome:
        """Runs one block, the `number`th of its turn. Raises `LoopEnd` when time is up or the sandbox lost."""
        course, text = self._course, self._course.trajectory.text
        started = course.clock.monotonic()
        wall = course.left().wall_s
        if wall == 0:
            raise _time_is_up()
        earlier, at = course.earlier, (course.task.name, course.turn, number)
        earlier.enter(*at)
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
        was = earlier.cell(*at, outcome)
        if earlier.fault is not None:
            raise LoopEnd(Reason.INTERRUPTED, str(earlier.fault), in_vain=True)
        if was is not None:
            course.copy(was)
            return outcome
        course.write(
            "cell", cell=number, code=text(code), stdout=text(outcome.stdout), stderr=text(outcome.stderr),
            truncated=outcome.truncated, error=None if outcome.error is None else asdict(outcome.error),
            seconds=round(outcome.seconds, 3), wall_s=round(course.clock.monotonic() - started, 3),
            answer=None if outcome.answer is None else self._row(outcome.answer),
            variables=[asdict(variable) for variable in outcome.variables],
        )  # fmt: skip
        return outcome

    async def value(self, final: Final) -> str | None:
        """The text of the variable that is named, or None when there is none. Raises `SandboxError`."""
        if not final.variable:
            return None
        if final.variable == "answer":
            # What it holds when nothing was put there is no answer.
            return self.answer or None
        try:
            value = await self._repl.value(final.variable)
        except UnknownVariableError:
            return None
        self.answer, self.lacks = value.content, value.partial or self.lacks
        return value.content

    def _row(self, answer: Answer) -> dict[str, object]:
        content = self._course.trajectory.text(answer.content)
        return {"ready": answer.ready, "partial": answer.partial, "content": content}


def _time_is_up() -> LoopEnd:
    return out_of_budget(Refusal(Bound.WALL, 0, 0))
