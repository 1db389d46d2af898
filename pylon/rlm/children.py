"""The loops inside loops that `rlm_query` begins: let through by the budget, each written down, and its answer."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.jobs.size import text_bytes
from pylon.rlm.batch import Caller
from pylon.rlm.budget import Bound, Budget, Cost, Refusal
from pylon.rlm.course import LoopOutcome
from pylon.rlm.earlier import Earlier
from pylon.rlm.gate import Gate
from pylon.rlm.repl.protocol import ContextFile, ContextSource, SubReply
from pylon.rlm.trajectory import Trajectory, name_of

# Runs one: its name, its question if it has one, its context, what that is in words, and its budget.
type RunLoop = Callable[[str, str | None, ContextSource, str, Budget], Awaitable[LoopOutcome]]


class Children:
    """See the module. `refused` is told of bounds that turned one away, `model` is who speaks in them. `at_once` of
    them run at each depth."""

    def __init__(
        self,
        loop: RunLoop,
        gate: Gate,
        trajectory: Trajectory,
        clock: Clock,
        earlier: Earlier,
        refused: set[Bound],
        model: str,
        *,
        at_once: int,
    ) -> None:
        self._loop = loop
        self._gate = gate
        self._trajectory = trajectory
        self._clock = clock
        self._earlier = earlier
        self._refused = refused
        self._model = model
        # A semaphore a depth: a loop that waits for its children holds none that they need.
        self._places: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(at_once))

    async def ask_all(self, caller: Caller, ids: Sequence[str], prompts: Sequence[str]) -> list[SubReply]:
        """A loop for each prompt, which is its context; their replies, in this order. `ids` are the names of their
        calls, and so of the loops."""
        return await _all_of(self._child(caller, *each) for each in zip(ids, prompts, strict=True))

    async def _child(self, caller: Caller, name: str, prompt: str) -> SubReply:
        """A loop of its own for an `rlm_query`: the prompt is its context. It counts as one sub-call itself."""
        ref = name_of(prompt)
        fields = {"loop": caller.loop, "turn": caller.turn, "call": name}
        known, again = self._child_again(caller, name, str(ref["sha256"]))
        if again is not None:
            return again
        # One that goes on is counted already.
        refused = None if known else await self._counted(caller.budget, prompt)
        if refused is not None:
            self._refused.add(refused.bound)
            reply = SubReply(refused.message, f"budget_{refused.bound}")
            self._trajectory.write(
                "returned", **fields, prompt=ref, code=reply.error_code, message=reply.text, attempts=0
            )
            return reply
        if known:
            # What the loop reads is this file, and of an earlier process's nobody knows whether it is whole.
            self._trajectory.text(prompt)
        else:
            self._trajectory.write("submitted", **fields, kind="rlm", model=None, prompt=ref)
        reply = SubReply("the run was ended", "cancelled")
        end: dict[str, str] = {}
        try:
            async with self._places[caller.budget.depth]:
                reply, end = await self._descend(caller.budget, name, prompt, str(ref["sha256"]))
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

    def _child_again(self, caller: Caller, name: str, sha256: str) -> tuple[bool, SubReply | None]:
        """Whether an `rlm_query` was made before the run was taken up, and its reply if it had one."""
        earlier = self._earlier
        events = earlier.child(caller.loop, name, sha256)
        if earlier.fault is not None:
            return True, SubReply(str(earlier.fault), "cancelled")
        if events is None:
            return False, None
        for event in events:
            its = event.get("loop") == earlier.called(caller.loop) and event.get("call") == earlier.called(name)
            named = {"loop": caller.loop, "call": name} if its else earlier.renamed(event, name)
            self._trajectory.copy(event, **named)
        last = events[-1]
        if last["type"] != "returned":
            return True, None
        if "code" in last:
            if (bound := last["code"].removeprefix("budget_")) in set(Bound):
                self._refused.add(Bound(bound))
            return True, SubReply(last["message"], last["code"])
        return True, SubReply(earlier.text(last, "text"), finish=last.get("finish"))

    async def _descend(self, parent: Budget, name: str, prompt: str, sha256: str) -> tuple[SubReply, dict[str, str]]:
        """What the loop's parent is given, and for the trajectory how the loop ended."""
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

    async def _counted(self, budget: Budget, prompt: str) -> Refusal | None:
        """Books the sub-call that a child loop is. One that could not take a turn is none, and starts no sandbox."""
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
        # What is let through is written before anybody else looks at the room that is left.
        self._trajectory.text(prompt)
        self._gate.settle(budget, reservation, Cost(calls=1))
        return None


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
