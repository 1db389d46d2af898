"""Child loops, which `rlm_query` begins: admits them to the budget, runs and records them."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.jobs.size import text_bytes
from pylon.rlm.batch import Caller
from pylon.rlm.budget import Bound, Budget, Cost, Refusal
from pylon.rlm.gate import Gate
from pylon.rlm.loop_state import LoopOutcome
from pylon.rlm.recorded_run import RecordedRun
from pylon.rlm.repl.protocol import ContextFile, ContextSource, SubReply
from pylon.rlm.trajectory import Trajectory, text_ref

# Runs one loop, from its name, its question if it has one, its context, what that is in words, and its budget.
type RunLoop = Callable[[str, str | None, ContextSource, str, Budget], Awaitable[LoopOutcome]]


class Children:
    """Runs the child loops of a run. Bounds that refuse one are added to `refused`; `model` is the name of their
    root; at most `at_once` of them run at each depth."""

    def __init__(
        self,
        loop: RunLoop,
        gate: Gate,
        trajectory: Trajectory,
        clock: Clock,
        recorded: RecordedRun,
        refused: set[Bound],
        model: str,
        *,
        at_once: int,
    ) -> None:
        self._loop = loop
        self._gate = gate
        self._trajectory = trajectory
        self._clock = clock
        self._recorded = recorded
        self._refused = refused
        self._model = model
        # One semaphore for each depth, so that a loop that waits for its children holds no place that they need.
        self._places: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(at_once))

    async def ask_all(self, caller: Caller, ids: Sequence[str], prompts: Sequence[str]) -> list[SubReply]:
        """Runs a loop for each prompt, which is its context; returns the replies in this order. `ids` are the names
        of the calls, and of the loops."""
        return await _all_of(self._child(caller, *each) for each in zip(ids, prompts, strict=True))

    async def _child(self, caller: Caller, name: str, prompt: str) -> SubReply:
        """Runs one child loop and records its call, which counts as one sub-call."""
        ref = text_ref(prompt)
        fields = {"loop": caller.loop, "turn": caller.turn, "call": name}
        known, reply_before = self._recorded_child(caller, name, str(ref["sha256"]))
        if reply_before is not None:
            return reply_before
        # A recorded call that had not returned was counted when it was sent.
        refused = None if known else await self._admit(caller.budget, prompt)
        if refused is not None:
            self._refused.add(refused.bound)
            reply = SubReply(refused.message, f"budget_{refused.bound}")
            self._trajectory.write(
                "returned", **fields, prompt=ref, code=reply.error_code, message=reply.text, attempts=0
            )
            return reply
        if known:
            # The loop reads its prompt from this file, which an earlier process may have left incomplete.
            self._trajectory.text(prompt)
        else:
            self._trajectory.write("submitted", **fields, kind="rlm", model=None, prompt=ref)
        reply = SubReply("the run was ended", "cancelled")
        end: dict[str, str] = {}
        try:
            async with self._places[caller.budget.depth]:
                reply, end = await self._run_child(caller.budget, name, prompt, str(ref["sha256"]))
        finally:
            if reply.error_code is None:
                self._trajectory.write(
                    "returned", **fields, prompt=ref, text=self._trajectory.text(reply.text), provider="",
                    model=self._model, msat=0, verified=[], finish=reply.finish, **end,
                )  # fmt: skip
            else:
                self._trajectory.write(
                    "returned",
                    **fields,
                    prompt=ref,
                    code=reply.error_code,
                    message=reply.text,
                    attempts=1,
                    **end,
                )
        return reply

    def _recorded_child(self, caller: Caller, name: str, sha256: str) -> tuple[bool, SubReply | None]:
        """Whether an `rlm_query` is recorded, and its reply if it returned; copies its events."""
        recorded = self._recorded
        events = recorded.child(caller.loop, name, sha256)
        if recorded.fault is not None:
            return True, SubReply(str(recorded.fault), "cancelled")
        if events is None:
            return False, None
        for event in events:
            is_call = (event.get("loop"), event.get("call")) == (
                recorded.recorded_name(caller.loop),
                recorded.recorded_name(name),
            )
            named = {"loop": caller.loop, "call": name} if is_call else recorded.renamed(event, name)
            self._trajectory.copy(event, **named)
        last = events[-1]
        if last["type"] != "returned":
            return True, None
        if "code" in last:
            if (bound := last["code"].removeprefix("budget_")) in set(Bound):
                self._refused.add(Bound(bound))
            return True, SubReply(last["message"], last["code"])
        return True, SubReply(recorded.text(last, "text"), finish=last.get("finish"))

    async def _run_child(
        self, parent: Budget, name: str, prompt: str, sha256: str
    ) -> tuple[SubReply, dict[str, str]]:
        """Runs the loop. Returns the reply to its parent, and `reason` and `detail` of its end for the trajectory."""
        budget = parent.child(now=self._clock.monotonic())
        if isinstance(budget, Refusal):
            return SubReply(budget.message, f"budget_{budget.bound}"), {}
        source = ContextSource("text", (ContextFile("context", self._trajectory.blob(sha256)),))
        try:
            outcome = await self._loop(name, None, source, f"a str of {len(prompt):,} characters", budget)
        except PylonError as error:
            return SubReply(str(error), "sandbox"), {}
        end = {"reason": str(outcome.reason), "detail": outcome.detail}
        if outcome.answer is None:
            return SubReply(f"no answer: {outcome.detail or outcome.reason}", "no_answer"), end
        return SubReply(outcome.answer, finish="partial" if outcome.partial else "stop"), end

    async def _admit(self, budget: Budget, prompt: str) -> Refusal | None:
        """Books the sub-call that a child loop counts as, or says why it is refused. A loop that could not take a
        single turn is refused here, so that no sandbox starts for it."""
        if budget.left(now=self._clock.monotonic()).turns == 0:
            return Refusal(Bound.TURNS, 1, 0)
        size = text_bytes(prompt)
        if (room := self._trajectory.claim(size)) is not None:
            return Refusal(Bound.DISK, size, room)
        try:
            reservation = await self._gate.wait(budget, Cost(calls=1))
        finally:
            self._trajectory.release(size)
        if isinstance(reservation, Refusal):
            return reservation
        # Written at once, before another call looks at the room that is left in the trajectory.
        self._trajectory.text(prompt)
        self._gate.settle(budget, reservation, Cost(calls=1))
        return None


async def _all_of(work: Iterable[Coroutine[Any, Any, SubReply]]) -> list[SubReply]:
    """The results of all. When this returns or raises, none of them is running any more: `gather` alone would let the
    others go on after the first is cancelled, and their loops still close sandboxes and write events."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            # Not cancelled a second time, which would interrupt the task while it closes its own children.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
