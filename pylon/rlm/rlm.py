"""A run of the Recursive Language Model: its loops, and what they share.

    rlm = Rlm(root, sub, open_repl, trajectory, clock)
    outcome = await rlm.run("Who …?", context, Limits(calls=500, depth=1))

All loops of a run have one budget, one queue before it, one room of sub-calls and one trajectory, and each has a REPL
of its own. The paper's engine makes sub-calls one cell at a time and stops at one level (arXiv 2512.24601, section on
limitations); here any number go on beside each other, to the depth that the budget allows.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pylon import __version__
from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.jobs import fit
from pylon.jobs.size import text_bytes
from pylon.rlm import prompts
from pylon.rlm.budget import Bound, Budget, Cost, Limits, Refusal
from pylon.rlm.calls import Caller, CallRoom
from pylon.rlm.context import Context
from pylon.rlm.gate import Gate
from pylon.rlm.loop import Loop, LoopOutcome, LoopTask, Reason
from pylon.rlm.prompts import Facts
from pylon.rlm.repl.protocol import ContextFile, ContextSource, Repl, SubCalls, SubReply
from pylon.rlm.root import Root
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import SubAnswer, SubLM, SubModels
from pylon.rlm.trajectory import Trajectory

ROOT_LOOP = "0"
# As the swarm calls what fits no event.
TOO_LARGE = "too_large"
# Bounds whose refusal leaves an answer incomplete; a prompt that was too long teaches the root to cut it up.
_SPENT_UP = {Bound.SATS, Bound.CALLS, Bound.TOKENS, Bound.WALL}


@dataclass(frozen=True, slots=True)
class Origin:
    """For the trajectory: which strategy runs, which run this one replays, which sandbox holds its code, and what
    else there is to say of the root (temperature, address, seed)."""

    strategy: str = "rlm"
    replay_of: str | None = None
    sandbox: str = ""
    root: Mapping[str, object] = field(default_factory=dict)


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
    ) -> None:
        self._root = root
        self._sub = sub
        self._open_repl = open_repl
        self._trajectory = trajectory
        self._clock = clock
        self._settings = settings or LoopSettings()
        self._last_s = self._settings.last_s
        self._gate = Gate(clock)
        self._room = CallRoom(sub, sub_settings or SubSettings(), self._gate, trajectory, clock)
        # A semaphore a depth: a loop that waits for its children holds none that they need.
        self._places: defaultdict[int, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(self._settings.children)
        )
        # REPLs of loops that begin together would all take as long to start as all of them.
        self._starts = asyncio.Semaphore(os.cpu_count() or 1)
        self._models = SubModels((), 0, 1)

    async def run(
        self, question: str, context: Context, limits: Limits, *, origin: Origin | None = None
    ) -> LoopOutcome:
        """The answer to a question about a context. Raises `UnreachableError` when there is no sub-LM,
        `SandboxError` when no REPL starts."""
        self._models = await self._sub.describe(self._room.settings.model)
        wall, self._last_s = limits.wall_s, self._settings.last_s
        if wall is not None:
            # The last turn's time is not the loops' to spend, but for a run that is hardly longer than that.
            self._last_s = min(self._last_s, wall / 2)
            wall -= self._last_s
        budget = Budget(replace(limits, wall_s=wall), now=self._clock.monotonic())
        self._opened(question, context, limits, origin or Origin())
        outcome = LoopOutcome(None, partial=True, reason=Reason.INTERRUPTED, turns=0)
        try:
            outcome = await self._loop(ROOT_LOOP, question, context.source, context.describe(), budget)
            if outcome.reason is Reason.FINAL and self._room.refused & _SPENT_UP:
                refused = f"sub-calls were refused: {', '.join(sorted(self._room.refused))}"
                detail = "; ".join(part for part in (outcome.detail, refused) if part)
                outcome = replace(outcome, partial=True, detail=detail)
        except PylonError as error:
            outcome = replace(outcome, reason=Reason.SANDBOX, detail=str(error))
            raise
        finally:
            await self._room.close()
            self._ended(outcome, budget)
        return outcome

    async def _loop(
        self, name: str, question: str | None, source: ContextSource, described: str, budget: Budget
    ) -> LoopOutcome:
        settings, root = self._settings, self._root
        tier = prompts.tier_of(settings.tier, root.context_tokens)
        deepest = isinstance(budget.child(now=self._clock.monotonic()), Refusal)
        facts = Facts(
            self._models.models,
            self._models.context_tokens,
            self._room.settings.max_tokens,
            self._models.width,
            not deepest,
            settings.turns,
            min(settings.output_chars, root.context_tokens),
            self._prompt_bytes(budget.limits),
        )
        task = LoopTask(name, question, prompts.system(facts, tier), prompts.task(question, described), budget)
        self._trajectory.write(
            "loop", loop=name, depth=budget.depth, system=self._trajectory.text(task.system),
            opening=self._trajectory.text(task.opening),
        )  # fmt: skip
        repl = self._open_repl()
        loop = Loop(
            task, root, repl, self._gate, self._trajectory, self._clock,
            replace(settings, output_chars=facts.output_chars, last_s=self._last_s),
        )  # fmt: skip

        async def on_calls(calls: SubCalls) -> Sequence[SubReply]:
            caller = Caller(name, budget, loop.turn)
            ids = [f"{name}/{calls.id}.{place}" for place in range(len(calls.prompts))]
            if calls.kind == "rlm" and not deepest:
                return await _all_of(self._child(caller, *each) for each in zip(ids, calls.prompts, strict=True))
            return await self._asked(caller, ids, calls)

        try:
            async with self._starts:
                await repl.open(source, settings.cell, on_calls)
            return await loop.run()
        finally:
            await repl.close()

    # --- sub-calls --------------------------------------------------------------------------------------------

    async def _asked(self, caller: Caller, ids: Sequence[str], calls: SubCalls) -> list[SubReply]:
        """Asks the sub-LM. A prompt that no event carries is told so at once, and costs nothing."""
        replies: dict[str, SubReply] = {}
        for name, prompt in zip(ids, calls.prompts, strict=True):
            if (message := self._unsendable(prompt, caller.budget.limits)) is not None:
                self._trajectory.write(
                    "returned", loop=caller.loop, turn=caller.turn, call=name, prompt=self._trajectory.text(prompt),
                    code=TOO_LARGE, message=message, attempts=0,
                )  # fmt: skip
                replies[name] = SubReply(message, TOO_LARGE)
        sent = [(name, prompt) for name, prompt in zip(ids, calls.prompts, strict=True) if name not in replies]
        outcomes = await self._room.ask(
            caller, [name for name, _ in sent], [prompt for _, prompt in sent], calls.model
        )
        for (name, _), one in zip(sent, outcomes, strict=True):
            if isinstance(one, SubAnswer):
                replies[name] = SubReply(one.text, finish=one.finish)
            else:
                replies[name] = SubReply(one.message, one.code)
        return [replies[name] for name in ids]

    def _unsendable(self, prompt: str, limits: Limits) -> str | None:
        """Why no event carries a prompt. What the budget's own limit refuses is left to the budget."""
        event_bytes, most = self._room.settings.event_bytes, limits.prompt_chars
        if event_bytes is None or (most is not None and len(prompt) > most) or fit.fits(prompt, event_bytes):
            return None
        return (
            f"a prompt of {len(prompt):,} characters, {text_bytes(prompt):,} bytes, does not fit one event;"
            f" {fit.prompt_bytes(event_bytes):,} bytes of plain text do: cut it up"
        )

    def _prompt_bytes(self, limits: Limits) -> int | None:
        """The longest prompt that is let through whatever it holds."""
        event_bytes = self._room.settings.event_bytes
        bounds = [None if event_bytes is None else fit.prompt_bytes(event_bytes), limits.prompt_chars]
        return min((bound for bound in bounds if bound is not None), default=None)

    # --- depth ------------------------------------------------------------------------------------------------

    async def _child(self, caller: Caller, name: str, prompt: str) -> SubReply:
        """A loop of its own for an `rlm_query`: the prompt is its context. It counts as one sub-call itself."""
        ref = self._trajectory.text(prompt)
        fields = {"loop": caller.loop, "turn": caller.turn, "call": name}
        refused = await self._counted(caller.budget)
        if refused is not None:
            self._room.refused.add(refused.bound)
            reply = SubReply(refused.message, f"budget_{refused.bound}")
            self._trajectory.write(
                "returned", **fields, prompt=ref, code=reply.error_code, message=reply.text, attempts=0
            )
            return reply
        self._trajectory.write("submitted", **fields, kind="rlm", model=None, prompt=ref)
        reply = SubReply("the run was ended", "cancelled")
        try:
            async with self._places[caller.budget.depth]:
                reply = await self._descend(caller.budget, name, prompt, str(ref["sha256"]))
        finally:
            if reply.error_code is None:
                self._trajectory.write(
                    "returned", **fields, prompt=ref, text=self._trajectory.text(reply.text), provider="",
                    model=self._root.name, msat=0, verified=[],
                )  # fmt: skip
            else:
                self._trajectory.write(
                    "returned", **fields, prompt=ref, code=reply.error_code, message=reply.text, attempts=1
                )
        return reply

    async def _descend(self, parent: Budget, name: str, prompt: str, sha256: str) -> SubReply:
        budget = parent.child(now=self._clock.monotonic())
        if isinstance(budget, Refusal):
            return SubReply(budget.message, f"budget_{budget.bound}")
        source = ContextSource("text", (ContextFile("context", self._trajectory.blob(sha256)),))
        try:
            outcome = await self._loop(name, None, source, f"a str of {len(prompt):,} characters", budget)
        except PylonError as error:
            return SubReply(str(error), "sandbox")
        if outcome.answer is None:
            return SubReply(f"no answer: {outcome.detail or outcome.reason}", "no_answer")
        return SubReply(outcome.answer)

    async def _counted(self, budget: Budget) -> Refusal | None:
        """Books the sub-call that a child loop is."""
        reservation = await self._gate.wait(budget, Cost(calls=1))
        if isinstance(reservation, Refusal):
            return reservation
        self._gate.settle(budget, reservation, Cost(calls=1))
        return None

    # --- the trajectory's ends --------------------------------------------------------------------------------

    def _opened(self, question: str, context: Context, limits: Limits, origin: Origin) -> None:
        self._trajectory.write(
            "run",
            id=self._trajectory.id,
            question=self._trajectory.text(question),
            strategy=origin.strategy,
            replay_of=origin.replay_of,
            version=__version__,
            root={
                **origin.root,
                "name": self._root.name,
                "context_tokens": self._root.context_tokens,
                "max_tokens": self._root.max_tokens,
                "tier": prompts.tier_of(self._settings.tier, self._root.context_tokens),
            },
            sandbox=origin.sandbox,
            cell=asdict(self._settings.cell),
            sub={"name": self._sub.name, **asdict(self._models), **asdict(self._room.settings)},
            limits=asdict(limits),
            turns=self._settings.turns,
            context={
                "kind": context.source.kind,
                "chars": context.chars,
                "bytes": context.size,
                "skipped": context.skipped,
                "files": [{**asdict(file), "path": str(file.path)} for file in context.files],
            },
        )

    def _ended(self, outcome: LoopOutcome, budget: Budget) -> None:
        self._trajectory.write(
            "final",
            answer=None if outcome.answer is None else self._trajectory.text(outcome.answer),
            partial=outcome.partial,
            reason=outcome.reason,
            detail=outcome.detail,
            hint="" if outcome.fault is None else outcome.fault.hint,
            turns=outcome.turns,
            spent=asdict(budget.spent),
        )


async def _all_of(work: Iterable[Coroutine[Any, Any, SubReply]]) -> list[SubReply]:
    """What all of them give. None is left when this ends: `gather` alone would let the others go on by themselves
    when the first is cancelled, and their loops still close sandboxes and write."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            # Not twice: that would interrupt it while it closes its own. Who cancels us again means that.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
