"""The sub-calls of a run: let through by the budget, asked together, each written down.

All loops of a run share one room. Equal prompts are asked once, at temperature 0 only.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pylon import log
from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.rlm.budget import NOTHING, Bound, Budget, Cost, Refusal, Reservation
from pylon.rlm.gate import Gate, Ticket
from pylon.rlm.settings import SubSettings
from pylon.rlm.sublm import Beside, Job, SubAnswer, SubFailure, SubLM, SubOutcome
from pylon.rlm.trajectory import Trajectory

logger = log.get("rlm")

# Fewer tokens than a third of its characters no prose has; a reservation should rather be too large.
_CHARS_PER_TOKEN = 3
# Jobs that fail are asked again elsewhere, and some get a second opinion. Whoever was given up may charge all the
# same: for this, up to so many times the price of the calls is set aside.
_BESIDE = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf: the loop, its budget, and the turn that it is in."""

    loop: str
    budget: Budget
    turn: int


@dataclass(slots=True, eq=False)
class _Call:
    id: str
    caller: Caller
    job: Job
    outcome: asyncio.Future[SubOutcome]
    # Cells that want it: an equal prompt of another one waits for the same outcome.
    waiters: int = 0
    reservation: Reservation | None = None
    ticket: Ticket | None = None
    batch: "_Batch | None" = None
    spent: Cost = NOTHING


@dataclass(slots=True, eq=False)
class _Batch:
    """Calls that went out together, on one budget. What is set aside for them is one sum to whoever asks them: what
    one call leaves may go to another's second attempt. So nothing of it is free before all of them are back.

    `most_msat` is that sum, None without a limit; `beside` is its part beyond the prices, `out` counts who is out.
    """

    budget: Budget
    calls: list[_Call]
    out: int
    most_msat: int | None = None
    beside: Reservation | None = None


def call_seed(seed: int, call: str) -> int:
    """The seed of one call of a run: below 2^31, which all engines take. Equal prompts that are drawn twice differ,
    and a run that makes the same calls again gives each the seed that it had."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{call}".encode()).digest()[:4], "big") >> 1


class CallRoom:
    """`refused` holds the bounds that turned a call away."""

    def __init__(self, sub: SubLM, settings: SubSettings, gate: Gate, trajectory: Trajectory, clock: Clock) -> None:
        self.settings = settings
        self.refused: set[Bound] = set()
        self._sub = sub
        self._gate = gate
        self._trajectory = trajectory
        self._clock = clock
        self._let_through: list[_Call] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._memo: dict[tuple[str | None, str], _Call] = {}

    async def ask(
        self, caller: Caller, ids: Sequence[str], prompts: Sequence[str], model: str | None
    ) -> list[SubOutcome]:
        """The outcomes of prompts, in their order. Cancelling it drops those that have not been sent yet."""
        calls: list[_Call] = []
        for name, prompt in zip(ids, prompts, strict=True):
            call = self._call(caller, name, prompt, model)
            known = self._known(call)
            if known is None:
                self._enter(call)
            calls.append(known or call)
            calls[-1].waiters += 1
        try:
            # Shielded: an equal prompt of another cell may wait for the same outcome.
            return [await asyncio.shield(call.outcome) for call in calls]
        except asyncio.CancelledError:
            self._drop(calls)
            raise

    async def close(self) -> None:
        """Cancels what is out."""
        for task in tuple(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        unsent, self._let_through = self._let_through, []
        for call in unsent:
            self._finish(call, SubFailure("cancelled", "the run was ended"))
            if call.reservation is not None:
                self._gate.settle(call.caller.budget, call.reservation, NOTHING)

    def _call(self, caller: Caller, name: str, prompt: str, model: str | None) -> _Call:
        settings = self.settings
        job = Job(
            prompt, (), model or settings.model, settings.max_tokens, settings.temperature, settings.timeout_s,
            seed=None if settings.seed is None else call_seed(settings.seed, name),
        )  # fmt: skip
        job = replace(job, most_msat=self._sub.most_msat(job))
        return _Call(name, caller, job, asyncio.get_running_loop().create_future())

    def _known(self, call: _Call) -> _Call | None:
        """The call of an equal prompt, when its outcome may stand for this one too."""
        if self.settings.temperature > 0:
            return None
        key = (call.job.model, call.job.prompt)
        known = self._memo.get(key)
        if known is None or (known.outcome.done() and isinstance(known.outcome.result(), SubFailure)):
            self._memo[key] = call
            return None
        self._write("repeated", call, prompt=self._trajectory.text(call.job.prompt))
        return known

    def _enter(self, call: _Call) -> None:
        job = call.job
        cost = Cost(job.most_msat, 1, len(job.prompt) // _CHARS_PER_TOKEN + job.max_tokens)

        def then(granted: Reservation | Refusal) -> None:
            if isinstance(granted, Refusal):
                self.refused.add(granted.bound)
                self._finish(call, SubFailure(f"budget_{granted.bound}", granted.message))
                return
            call.reservation = granted
            if not self._let_through:
                # Whatever else is let through until then goes out with it.
                asyncio.get_running_loop().call_soon(self._send)
            self._let_through.append(call)

        call.ticket = self._gate.enter(call.caller.budget, cost, then, prompt_chars=len(job.prompt))

    def _drop(self, calls: list[_Call]) -> None:
        for call in calls:
            call.waiters -= 1
        unsent = [call for call in calls if not call.waiters and not call.outcome.done() and call.reservation is None]
        self._gate.leave({call.ticket for call in unsent if call.ticket is not None})
        for call in unsent:
            self._finish(call, SubFailure("cancelled", "its cell was ended"))

    def _send(self) -> None:
        by_budget: dict[Budget, list[_Call]] = {}
        for call in self._let_through:
            by_budget.setdefault(call.caller.budget, []).append(call)
        self._let_through = []
        for budget, calls in by_budget.items():
            # Begun at once: one that is cancelled before its first step would leave its calls without an end.
            task = asyncio.Task(
                self._ask(budget, calls), loop=asyncio.get_running_loop(), name="sub-calls", eager_start=True
            )
            if not task.done():
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)

    def _batch(self, budget: Budget, calls: list[_Call]) -> _Batch:
        """Sets aside what these may cost beside their prices: at most half of what is left, as others need some."""
        batch = _Batch(budget, calls, len(calls))
        for call in calls:
            call.batch = batch
        now = self._clock.monotonic()
        left = budget.left(now=now).msat
        if left is not None:
            prices = sum(call.job.most_msat for call in calls)
            beside = budget.reserve(Cost(msat=max(0, min(left // 2, _BESIDE * prices))), now=now)
            batch.beside = None if isinstance(beside, Refusal) else beside
            batch.most_msat = prices + (0 if batch.beside is None else batch.beside.cost.msat)
        return batch

    async def _ask(self, budget: Budget, calls: list[_Call]) -> None:
        failure = SubFailure("internal", "this call came to no end")
        batch = self._batch(budget, calls)
        try:
            for call in calls:
                prompt = self._trajectory.text(call.job.prompt)
                seeded = {} if call.job.seed is None else {"seed": call.job.seed}
                self._write("submitted", call, kind="llm", model=call.job.model, prompt=prompt, **seeded)
            async with asyncio.timeout(budget.left(now=self._clock.monotonic()).wall_s):
                async for came in self._sub.ask([call.job for call in calls], budget_msat=batch.most_msat):
                    if isinstance(came, Beside):
                        self._charged(calls[0].caller, came.msat)
                    else:
                        self._finish(calls[came[0]], came[1])
        except TimeoutError:
            self.refused.add(Bound.WALL)
            failure = SubFailure(f"budget_{Bound.WALL}", Refusal(Bound.WALL, 0, 0).message)
        except PylonError as error:
            failure = SubFailure("unreachable", str(error))
        except asyncio.CancelledError:
            failure = SubFailure("cancelled", "the run was ended")
            raise
        except Exception:
            logger.exception("sub-calls failed")
        finally:
            for call in calls:
                self._finish(call, failure)

    def _finish(self, call: _Call, outcome: SubOutcome) -> None:
        """Writes down what became of a call, hands its outcome over, and books its batch when it is whole. Once."""
        if call.outcome.done():
            return
        row = asdict(outcome)
        call.spent = Cost(calls=1)
        if isinstance(outcome, SubAnswer):
            row["text"] = self._trajectory.text(outcome.text)
            call.spent = Cost(outcome.msat, 1, outcome.prompt_tokens + outcome.completion_tokens)
        elif outcome.code == f"budget_{Bound.SATS}":
            self.refused.add(Bound.SATS)
        self._write("returned", call, prompt=self._trajectory.text(call.job.prompt), **row)
        call.outcome.set_result(outcome)
        if call.batch is not None:
            call.batch.out -= 1
            if not call.batch.out:
                self._settle(call.batch)

    def _settle(self, batch: _Batch) -> None:
        for call in batch.calls:
            if call.reservation is not None:
                self._gate.settle(batch.budget, call.reservation, call.spent)
        if batch.beside is not None:
            self._gate.settle(batch.budget, batch.beside, NOTHING)

    def _charged(self, caller: Caller, msat: int) -> None:
        """Books and writes down what no answer accounts for."""
        caller.budget.book(Cost(msat))
        self._trajectory.write("charged", loop=caller.loop, turn=caller.turn, msat=msat)

    def _write(self, kind: str, call: _Call, /, **fields: object) -> None:
        self._trajectory.write(kind, loop=call.caller.loop, turn=call.caller.turn, call=call.id, **fields)
