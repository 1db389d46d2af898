"""A run of the Recursive Language Model: starts its loops, and holds what they share.

    rlm = Rlm(root, sub, open_repl, trajectory, clock)
    outcome = await rlm.run("Who …?", context, Limits(calls=500, depth=1))

All loops of a run share one budget, the queue in front of it, one runner of sub-calls and one trajectory; each loop
has a REPL of its own. The paper's engine makes sub-calls one cell at a time and stops at one level (arXiv 2512.24601,
section on limitations); here loops run concurrently, to the depth that the budget allows.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.rlm import budget_hints, prompts
from pylon.rlm.batch import Caller
from pylon.rlm.budget import Budget, Cost, Limits, Refusal
from pylon.rlm.calls import SubCallRunner
from pylon.rlm.children import Children
from pylon.rlm.context import Context
from pylon.rlm.gate import Gate
from pylon.rlm.late import LateCharges
from pylon.rlm.llm_query import ask_all, longest_prompt
from pylon.rlm.loop import Loop
from pylon.rlm.loop_state import LoopOutcome, LoopState, LoopTask, Reason
from pylon.rlm.prompts import Facts
from pylon.rlm.recorded_run import DiffersError, RecordedRun
from pylon.rlm.repl.protocol import ContextSource, Repl, SubCalls, SubReply
from pylon.rlm.root import Root
from pylon.rlm.run_events import Origin, write_final, write_run
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.shared_budget import SharedBudget
from pylon.rlm.sublm import SubLM, SubModels
from pylon.rlm.trajectory import Trajectory
from pylon.rlm.unsettled import Unsettled

ROOT_LOOP = "0"


class Rlm:
    """One run. `run` is called once."""

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
        shared_budget: SharedBudget | None = None,
        recorded: RecordedRun | None = None,
    ) -> None:
        """`shared_budget` is one that other runs spend from too; without it the run has all of its limits for itself.
        `recorded` is its record if the run is resumed."""
        self._root = root
        self._sub = sub
        self._open_repl = open_repl
        self._trajectory = trajectory
        self._clock = clock
        self._settings = settings or LoopSettings()
        self._last_s = self._settings.last_s
        self._above = None if shared_budget is None else shared_budget.budget
        self._gate = Gate(clock) if shared_budget is None else shared_budget.gate
        self._unsettled = Unsettled(self._gate) if shared_budget is None else shared_budget.unsettled
        self._late = LateCharges(self._unsettled, trajectory)
        self._recorded = recorded or RecordedRun()
        self._sub_calls = SubCallRunner(
            sub, sub_settings or SubSettings(), self._gate, trajectory, clock, self._late, self._recorded
        )  # fmt: skip
        self._children = Children(
            self._loop, self._gate, trajectory, clock, self._recorded, self._sub_calls.refused, root.name,
            at_once=self._settings.children,
        )  # fmt: skip
        # Starting all REPLs of loops that begin together at once would make each take as long as all of them.
        self._starts = asyncio.Semaphore(os.cpu_count() or 1)
        self._models = SubModels((), 0, 1)
        self._root_outcome: LoopOutcome | None = None

    async def run(
        self, question: str, context: Context, limits: Limits, *, origin: Origin | None = None
    ) -> LoopOutcome:
        """Answers a question about a context.

        Raises `UnreachableError` when no sub-LM is available, `SandboxError` when no REPL starts; for a resumed run
        `DiffersError` when its code behaves differently from what is recorded, and `UsageError` when a text that it
        needs is missing or damaged.
        """
        await asyncio.to_thread(self._recorded.check_texts)
        self._models = await self._sub.describe(self._sub_calls.settings.model)
        self._trajectory.most_bytes = limits.disk_bytes
        budget = self._budget(limits)
        write_run(
            self._trajectory, question, context, limits, origin or Origin(),
            root=self._root, settings=self._settings, sub_name=self._sub.name, models=self._models,
            sub_settings=self._sub_calls.settings, before=self._recorded.carried_over(round(self._clock.wall(), 3)),
            shared=self._above is not None,
        )  # fmt: skip
        self._carry_over(budget)
        outcome = LoopOutcome(None, partial=True, reason=Reason.INTERRUPTED, turns=0)
        try:
            if (over := self._used_up(budget)) is not None:
                outcome = LoopOutcome(
                    None, partial=True, reason=Reason.BUDGET, turns=0, detail=over.message,
                    hint=budget_hints.raise_hint([over.bound]),
                )  # fmt: skip
                return outcome
            outcome = await self._loop(ROOT_LOOP, question, context.source, context.describe(), budget)
            if self._recorded.fault is not None:
                raise self._recorded.fault
            outcome = self._lacking(outcome)
        except PylonError as error:
            reason = Reason.INTERRUPTED if isinstance(error, DiffersError) else Reason.SANDBOX
            outcome = replace(outcome, answer=None, reason=reason, detail=str(error))
            raise
        except asyncio.CancelledError:
            # A run that is cancelled while its sandbox closes has its answer already.
            outcome = outcome if self._root_outcome is None else self._lacking(self._root_outcome)
            raise
        finally:
            try:
                await self._close()
            finally:
                # The record of a resumed run that came no further stays as it was.
                if outcome.answer is not None or not self._trajectory.draft:
                    write_final(self._trajectory, outcome, budget)
        return outcome

    def _budget(self, limits: Limits) -> Budget:
        """The budget of the run, without the time that earlier processes took and that of the last turn."""
        wall, self._last_s = limits.wall_s, self._settings.last_s
        if wall is not None:
            wall = max(0.0, wall - self._recorded.record.seconds)
            # The last turn gets at most half of what is left.
            self._last_s = min(self._last_s, wall / 2)
            wall -= self._last_s
        return Budget(replace(limits, wall_s=wall), now=self._clock.monotonic(), parent=self._above)

    async def _close(self) -> None:
        # Closed in reverse order. The stack closes the others too if one of them is cancelled meanwhile.
        async with AsyncExitStack() as parts:
            if self._above is None:
                # That of a shared budget goes on for the other runs.
                parts.push_async_callback(self._unsettled.close)
            parts.callback(self._late.close)
            parts.push_async_callback(self._sub_calls.close)

    def _carry_over(self, budget: Budget) -> None:
        """Books what was spent before the run was resumed, and sets aside what its open asks may still be charged."""
        budget.book(self._recorded.spent)
        self._late.resume(self._recorded.open_asks, self._sub, budget)
        self._recorded.start(lambda loop, turn, cell: self._trajectory.write("cut", loop=loop, turn=turn, cell=cell))

    def _lacking(self, outcome: LoopOutcome) -> LoopOutcome:
        """Marks an answer as partial if the budget refused calls that it may need. A program that was refused
        something ended because of the budget; a root model chose to answer, so its reason stays."""
        refused = budget_hints.limiting_bounds(self._sub_calls.refused)
        if not refused or outcome.reason not in (Reason.FINAL, Reason.PROGRAM_FAILED):
            return outcome
        told = f"sub-calls were refused: {', '.join(refused)}"
        detail = "; ".join(part for part in (outcome.detail, told) if part)
        reason = outcome.reason if self._root.max_tokens else Reason.BUDGET
        return replace(outcome, partial=True, reason=reason, detail=detail, hint=budget_hints.raise_hint(refused))

    def _used_up(self, budget: Budget) -> Refusal | None:
        """Why what other runs have left of a shared budget is too little even to begin, so that no sandbox has to
        start; None if it is enough, or if the run has its own budget."""
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
        """Runs one loop, with a REPL of its own, to its outcome. `described` says what its context is, in words."""
        settings, root = self._settings, self._root
        tier = prompts.tier_of(settings.tier, root.context_tokens)
        deepest = isinstance(budget.child(now=self._clock.monotonic()), Refusal)
        facts = Facts(
            sub_models=self._models.models,
            sub_tokens=self._models.context_tokens,
            answer_tokens=self._sub_calls.settings.max_tokens,
            width=self._models.width,
            deeper=not deepest,
            turns=settings.turns,
            output_chars=min(settings.output_chars, root.context_tokens),
            cell_s=settings.cell.seconds,
            temperature=self._sub_calls.settings.temperature,
            prompt_bytes=longest_prompt(self._sub_calls.settings.event_bytes, budget.limits),
        )
        # No model reads what would stand before a program.
        asks = bool(root.max_tokens)
        system, opening = (prompts.system(facts, tier), prompts.task(question, described)) if asks else ("", "")
        task = self._task(name, question, system, opening, budget)
        repl = self._open_repl()
        settings = replace(settings, output_chars=facts.output_chars, last_s=self._last_s)
        state = LoopState(task, self._trajectory, self._clock, settings, self._recorded)
        loop = Loop(state, root, repl, self._gate, self._late)
        # Calls are numbered here: a restarted REPL would count from 1 again, and a hostile one could say any number.
        numbers = itertools.count(1)

        async def on_calls(calls: SubCalls) -> Sequence[SubReply]:
            caller = Caller(name, budget, state.turn)
            request = f"{name}/c{next(numbers)}"
            ids = [f"{request}.{place}" for place in range(len(calls.prompts))]
            state.pace.began(len(ids), now=self._clock.monotonic())
            try:
                if calls.kind == "rlm" and not deepest:
                    return await self._children.ask_all(caller, ids, calls.prompts)
                return await ask_all(self._sub_calls, self._trajectory, caller, ids, calls)
            finally:
                state.pace.ended(now=self._clock.monotonic())

        try:
            async with self._starts:
                await repl.open(source, settings.cell, on_calls)
            outcome = await loop.run()
            if name == ROOT_LOOP:
                self._root_outcome = outcome
            return outcome
        finally:
            await repl.close()

    def _task(self, name: str, question: str | None, system: str, opening: str, budget: Budget) -> LoopTask:
        """Makes a loop's task and writes its `loop` event. The root of a resumed loop is told what it was told."""
        if (was := self._recorded.loop(name)) is not None:
            self._trajectory.copy(was, loop=name)
            text_of = self._recorded.text
            return LoopTask(name, question, text_of(was, "system"), text_of(was, "opening"), budget)
        text = self._trajectory.text
        self._trajectory.write("loop", loop=name, depth=budget.depth, system=text(system), opening=text(opening))
        return LoopTask(name, question, system, opening, budget)
