"""A run of the Recursive Language Model: its loops, and what they share.

    rlm = Rlm(root, sub, open_repl, trajectory, clock)
    outcome = await rlm.run("Who …?", context, Limits(calls=500, depth=1))

All loops of a run have one budget, one queue before it, one room of sub-calls and one trajectory, and each has a REPL
of its own. The paper's engine makes sub-calls one cell at a time and stops at one level (arXiv 2512.24601, section on
limitations); here any number go on beside each other, to the depth that the budget allows.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.rlm import prompts, raising
from pylon.rlm.batch import Caller
from pylon.rlm.budget import Budget, Cost, Limits, Refusal
from pylon.rlm.calls import CallRoom
from pylon.rlm.children import Children
from pylon.rlm.context import Context
from pylon.rlm.course import Course, LoopOutcome, LoopTask, Reason
from pylon.rlm.earlier import DiffersError, Earlier
from pylon.rlm.gate import Gate
from pylon.rlm.late import LateCharges
from pylon.rlm.llm_query import ask_all, longest_prompt
from pylon.rlm.loop import Loop
from pylon.rlm.prompts import Facts
from pylon.rlm.purse import Purse
from pylon.rlm.repl.protocol import ContextSource, Repl, SubCalls, SubReply
from pylon.rlm.root import Root
from pylon.rlm.run_ends import Origin, begun, ended
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import SubLM, SubModels
from pylon.rlm.trajectory import Trajectory
from pylon.rlm.unsettled import Unsettled

ROOT_LOOP = "0"


class Rlm:
    """See the module. `run` is called once."""

    def __init__(
        self,
        root: Root,
        sub: SubLM,
        open_repl: Callable[[], Repl],
        trajectory: Trajectory,
        clock: Clock,
        *,
        settings: LoopSettings | None = None,
        sub_settings: SubSettings | None = None,
        purse: Purse | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        """`purse` is what other runs spend from too; without one the run has all of its limits for itself. `earlier`
        is what there is of the run when it is taken up."""
        self._root = root
        self._sub = sub
        self._open_repl = open_repl
        self._trajectory = trajectory
        self._clock = clock
        self._settings = settings or LoopSettings()
        self._last_s = self._settings.last_s
        self._above = None if purse is None else purse.budget
        self._gate = Gate(clock) if purse is None else purse.gate
        self._unsettled = Unsettled(self._gate) if purse is None else purse.unsettled
        self._late = LateCharges(self._unsettled, trajectory)
        self._earlier = earlier or Earlier()
        self._room = CallRoom(
            sub, sub_settings or SubSettings(), self._gate, trajectory, clock, self._late, self._earlier
        )  # fmt: skip
        self._children = Children(
            self._loop, self._gate, trajectory, clock, self._earlier, self._room.refused, root.name,
            at_once=self._settings.children,
        )  # fmt: skip
        # REPLs of loops that begin together would all take as long to start as all of them.
        self._starts = asyncio.Semaphore(os.cpu_count() or 1)
        self._models = SubModels((), 0, 1)
        self._come_to: LoopOutcome | None = None

    async def run(
        self, question: str, context: Context, limits: Limits, *, origin: Origin | None = None
    ) -> LoopOutcome:
        """The answer to a question about a context. Raises `UnreachableError` when there is no sub-LM,
        `SandboxError` when no REPL starts, `DiffersError` where a run that is taken up does not go the way that is
        recorded, `UsageError` where what it cannot go on without is not kept as it was."""
        await asyncio.to_thread(self._earlier.check)
        self._models = await self._sub.describe(self._room.settings.model)
        wall, self._last_s = limits.wall_s, self._settings.last_s
        if wall is not None:
            # The last turn's time is not the loops' to spend, but for a run that is hardly longer than that.
            wall = max(0.0, wall - self._earlier.lives.seconds)
            self._last_s = min(self._last_s, wall / 2)
            wall -= self._last_s
        self._trajectory.most_bytes = limits.disk_bytes
        budget = Budget(replace(limits, wall_s=wall), now=self._clock.monotonic(), parent=self._above)
        begun(
            self._trajectory, question, context, limits, origin or Origin(),
            root=self._root, settings=self._settings, sub_name=self._sub.name, models=self._models,
            sub_settings=self._room.settings, before=self._earlier.before(round(self._clock.wall(), 3)),
            shared=self._above is not None,
        )  # fmt: skip
        self._carry_over(budget)
        outcome = LoopOutcome(None, partial=True, reason=Reason.INTERRUPTED, turns=0)
        try:
            if (over := self._used_up(budget)) is not None:
                outcome = LoopOutcome(
                    None, partial=True, reason=Reason.BUDGET, turns=0, detail=over.message,
                    hint=raising.more([over.bound]),
                )  # fmt: skip
                return outcome
            outcome = await self._loop(ROOT_LOOP, question, context.source, context.describe(), budget)
            if self._earlier.fault is not None:
                raise self._earlier.fault
            outcome = self._lacking(outcome)
        except PylonError as error:
            reason = Reason.INTERRUPTED if isinstance(error, DiffersError) else Reason.SANDBOX
            outcome = replace(outcome, answer=None, reason=reason, detail=str(error))
            raise
        except asyncio.CancelledError:
            # Whoever is ended while the sandbox is has come to its answer.
            outcome = outcome if self._come_to is None else self._lacking(self._come_to)
            raise
        finally:
            try:
                await self._close()
            finally:
                # One that was taken up and came no further stays as it was.
                if outcome.answer is not None or not self._trajectory.draft:
                    ended(self._trajectory, outcome, budget)
        return outcome

    async def _close(self) -> None:
        # From the last to the first. Whoever ends a run may be ended meanwhile, and none of them shall go on.
        async with AsyncExitStack() as parts:
            if self._above is None:
                # A purse's goes on for the others.
                parts.push_async_callback(self._unsettled.close)
            parts.callback(self._late.close)
            parts.push_async_callback(self._room.close)

    def _carry_over(self, budget: Budget) -> None:
        """What was spent before the run was taken up is spent, and what its calls may be charged yet set aside."""
        budget.book(self._earlier.spent)
        self._late.take_up(self._earlier.open, self._sub, budget)
        self._earlier.begin(lambda loop, turn, cell: self._trajectory.write("cut", loop=loop, turn=turn, cell=cell))

    def _lacking(self, outcome: LoopOutcome) -> LoopOutcome:
        """What the budget refused may be what an answer lacks. A program that was refused anything has come as far as
        the budget let it; a root model knows what it says all the same."""
        refused = raising.may_lack(self._room.refused)
        if not refused or outcome.reason not in (Reason.FINAL, Reason.PROGRAM_FAILED):
            return outcome
        told = f"sub-calls were refused: {', '.join(refused)}"
        detail = "; ".join(part for part in (outcome.detail, told) if part)
        reason = outcome.reason if self._root.max_tokens else Reason.BUDGET
        return replace(outcome, partial=True, reason=reason, detail=detail, hint=raising.more(refused))

    def _used_up(self, budget: Budget) -> Refusal | None:
        """Why nothing can be done with what others have left of a budget: no sandbox need start for that."""
        if self._above is None:
            return None
        root = self._root
        first = Cost(root.most_msat, 0, root.max_tokens, turns=1) if root.max_tokens else Cost(calls=1)
        granted = budget.reserve(first, now=self._clock.monotonic())
        if isinstance(granted, Refusal):
            return None if granted.waits else granted
        budget.settle(granted, Cost())
        return None

    async def _loop(
        self, name: str, question: str | None, source: ContextSource, described: str, budget: Budget
    ) -> LoopOutcome:
        settings, root = self._settings, self._root
        tier = prompts.tier_of(settings.tier, root.context_tokens)
        deepest = isinstance(budget.child(now=self._clock.monotonic()), Refusal)
        facts = Facts(
            sub_models=self._models.models,
            sub_tokens=self._models.context_tokens,
            answer_tokens=self._room.settings.max_tokens,
            width=self._models.width,
            deeper=not deepest,
            turns=settings.turns,
            output_chars=min(settings.output_chars, root.context_tokens),
            cell_s=settings.cell.seconds,
            temperature=self._room.settings.temperature,
            prompt_bytes=longest_prompt(self._room.settings.event_bytes, budget.limits),
        )
        # No model reads what would stand before a program.
        asks = bool(root.max_tokens)
        system, opening = (prompts.system(facts, tier), prompts.task(question, described)) if asks else ("", "")
        task = self._task(name, question, system, opening, budget)
        repl = self._open_repl()
        settings = replace(settings, output_chars=facts.output_chars, last_s=self._last_s)
        course = Course(task, self._trajectory, self._clock, settings, self._earlier)
        loop = Loop(course, root, repl, self._gate, self._late)
        # A REPL that was lost counts anew, and what it says is hostile: names of calls are none of its business.
        numbers = itertools.count(1)

        async def on_calls(calls: SubCalls) -> Sequence[SubReply]:
            caller = Caller(name, budget, course.turn)
            request = f"{name}/c{next(numbers)}"
            ids = [f"{request}.{place}" for place in range(len(calls.prompts))]
            course.pace.began(len(ids), now=self._clock.monotonic())
            try:
                if calls.kind == "rlm" and not deepest:
                    return await self._children.ask_all(caller, ids, calls.prompts)
                return await ask_all(self._room, self._trajectory, caller, ids, calls)
            finally:
                course.pace.ended(now=self._clock.monotonic())

        try:
            async with self._starts:
                await repl.open(source, settings.cell, on_calls)
            outcome = await loop.run()
            if name == ROOT_LOOP:
                self._come_to = outcome
            return outcome
        finally:
            await repl.close()

    def _task(self, name: str, question: str | None, system: str, opening: str, budget: Budget) -> LoopTask:
        """A loop's task, written down. What its root was told at first it is not told otherwise later."""
        if (was := self._earlier.loop(name)) is not None:
            self._trajectory.copy(was, loop=name)
            text_of = self._earlier.text
            return LoopTask(name, question, text_of(was, "system"), text_of(was, "opening"), budget)
        text = self._trajectory.text
        self._trajectory.write("loop", loop=name, depth=budget.depth, system=text(system), opening=text(opening))
        return LoopTask(name, question, system, opening, budget)
