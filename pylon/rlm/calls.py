"""The sub-calls of a run: let through by the budget, asked together, each written down.

All loops of a run share one room. Equal prompts are asked once, at temperature 0 only.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, replace

from pylon import log
from pylon.clock import Clock
from pylon.errors import PylonError
from pylon.jobs.size import text_bytes
from pylon.money.accounts.usage import TEMPLATE_TOKENS
from pylon.rlm.batch import Batch, Call, Caller
from pylon.rlm.budget import NOTHING, Bound, Budget, Cost, Refusal, Reservation
from pylon.rlm.charges import Beside, Charge, Reserved
from pylon.rlm.earlier import Earlier
from pylon.rlm.gate import Gate
from pylon.rlm.late import LateCharges
from pylon.rlm.settings import SubSettings
from pylon.rlm.sublm import Job, SubAnswer, SubFailure, SubLM, SubOutcome
from pylon.rlm.trajectory import Trajectory, TrajectoryError, name_of
from pylon.rlm.unsettled import Unsettled
from pylon.tasks import end

logger = log.get("rlm")

# Fewer tokens than a third of its characters no prose has; a reservation should rather be too large.
_CHARS_PER_TOKEN = 3


def call_seed(seed: int, call: str) -> int:
    """The seed of one call of a run: below 2^31, which all engines take. Equal prompts that are drawn twice differ,
    and a run that makes the same calls again gives each the seed that it had."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{call}".encode()).digest()[:4], "big") >> 1


def _tokens(job: Job, answer: SubAnswer) -> int:
    """What an answer is booked for. Nobody checked the count of one that costs nothing, and one large number would
    use up the run's tokens. No tokenizer makes more than one of a byte."""
    read = min(answer.prompt_tokens, text_bytes(job.prompt) + TEMPLATE_TOKENS)
    return max(0, read) + max(0, min(answer.completion_tokens, job.max_tokens))


def _key(call: Call) -> tuple[str | None, str]:
    return (call.job.model, call.named["sha256"])


class CallRoom:
    """`refused` holds the bounds that turned a call away. `late` sees to what asks are charged when they are over."""

    def __init__(
        self,
        sub: SubLM,
        settings: SubSettings,
        gate: Gate,
        trajectory: Trajectory,
        clock: Clock,
        late: LateCharges | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self.settings = settings
        self.refused: set[Bound] = set()
        self._sub = sub
        self._gate = gate
        self._trajectory = trajectory
        self._clock = clock
        self._late = late or LateCharges(Unsettled(gate), trajectory)
        self._earlier = earlier or Earlier()
        self._let_through: list[Call] = []
        self._asking: set[asyncio.Task[None]] = set()
        # By model and hash: the calls whose outcome equal ones may have.
        self._memo: dict[tuple[str | None, str], Call] = {}

    async def ask(
        self, caller: Caller, ids: Sequence[str], prompts: Sequence[str], model: str | None
    ) -> list[SubOutcome]:
        """The outcomes of prompts, in their order. Cancelling it drops those that have not been sent yet."""
        calls: list[Call] = []
        for name, prompt in zip(ids, prompts, strict=True):
            call = self._call(caller, name, prompt, model)
            if (refused := caller.budget.too_long(len(prompt))) is not None:
                # At once: it may be huge, and there may be any number of them.
                self._refuse(call, refused)
                calls.append(call)
                continue
            known = self._known(call)
            if known is None and not self._take_up(call):
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
        try:
            await end(*self._asking)
        finally:
            unsent, self._let_through = self._let_through, []
            for call in unsent:
                self._finish(call, SubFailure("cancelled", "the run was ended"))
                if call.reservation is not None:
                    self._gate.settle(call.caller.budget, call.reservation, NOTHING)

    def _call(self, caller: Caller, name: str, prompt: str, model: str | None) -> Call:
        settings = self.settings
        job = Job(
            prompt, (), model or settings.model, settings.max_tokens, settings.temperature, settings.timeout_s,
            seed=None if settings.seed is None else call_seed(settings.seed, name),
        )  # fmt: skip
        job = replace(job, most_msat=self._sub.most_msat(job))
        return Call(name, caller, job, asyncio.get_running_loop().create_future(), name_of(prompt))

    def _known(self, call: Call) -> Call | None:
        """The call of an equal prompt, when its outcome may stand for this one too."""
        if self.settings.temperature > 0:
            return None
        known = self._memo.setdefault(_key(call), call)
        if known is call:
            return None
        self._write("repeated", call, prompt=call.named)
        return known

    def _take_up(self, call: Call) -> bool:
        """Gives a call the outcome that it had before the run was taken up, if it had one."""
        caller = call.caller
        found = self._earlier.call(caller.loop, call.id, call.job.model, call.named["sha256"])
        if found is None:
            if (fault := self._earlier.fault) is not None:
                # The run is over, and nothing more is asked for it.
                self._finish(call, SubFailure("cancelled", str(fault)))
            return fault is not None
        events, outcome = found
        for event in events:
            self._trajectory.copy(event, loop=caller.loop, call=call.id)
        if isinstance(outcome, SubFailure) and (bound := outcome.code.removeprefix("budget_")) in set(Bound):
            self.refused.add(Bound(bound))
        self._hand_over(call, outcome)
        return True

    def _enter(self, call: Call) -> None:
        job, size = call.job, text_bytes(call.job.prompt)
        if (left := self._trajectory.claim(size)) is not None:
            self._refuse(call, Refusal(Bound.DISK, size, left))
            return
        call.claimed = size
        cost = Cost(job.most_msat, 1, len(job.prompt) // _CHARS_PER_TOKEN + job.max_tokens)

        def then(granted: Reservation | Refusal) -> None:
            if isinstance(granted, Refusal):
                self._refuse(call, granted)
                return
            call.reservation = granted
            if not self._let_through:
                # Whatever else is let through until then goes out with it.
                asyncio.get_running_loop().call_soon(self._send)
            self._let_through.append(call)

        call.ticket = self._gate.enter(call.caller.budget, cost, then, prompt_chars=len(job.prompt))

    def _refuse(self, call: Call, refusal: Refusal) -> None:
        self.refused.add(refusal.bound)
        self._finish(call, SubFailure(f"budget_{refusal.bound}", refusal.message))

    def _drop(self, calls: list[Call]) -> None:
        for call in calls:
            call.waiters -= 1
        unsent = [call for call in calls if not call.waiters and not call.outcome.done() and call.reservation is None]
        self._gate.leave({call.ticket for call in unsent if call.ticket is not None})
        for call in unsent:
            self._finish(call, SubFailure("cancelled", "its cell was ended"))

    def _send(self) -> None:
        by_budget: dict[Budget, list[Call]] = {}
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

    async def _ask(self, budget: Budget, calls: list[Call]) -> None:
        failure = SubFailure("internal", "this call came to no end")
        batch = Batch(budget, calls, self._gate, now=self._clock.monotonic())
        try:
            for call in calls:
                seeded = {} if call.job.seed is None else {"seed": call.job.seed}
                self._trajectory.text(call.job.prompt)
                self._unclaim(call)
                self._write("submitted", call, kind="llm", model=call.job.model, prompt=call.named, **seeded)
            async with asyncio.timeout(budget.left(now=self._clock.monotonic()).wall_s):
                jobs = [call.job for call in calls]
                async with aclosing(self._sub.ask(jobs, budget_msat=batch.most_msat)) as outcomes:  # type: ignore[type-var]
                    async for came in outcomes:
                        if isinstance(came, tuple):
                            self._finish(calls[came[0]], came[1])
                        else:
                            self._hear(batch, calls, came)
                        if self._trajectory.fault is not None:
                            # The run is over, and nobody needs to be paid for the others.
                            raise self._trajectory.fault
        except TimeoutError:
            self.refused.add(Bound.WALL)
            failure = SubFailure(f"budget_{Bound.WALL}", Refusal(Bound.WALL, 0, 0).message)
        except TrajectoryError as error:
            failure = SubFailure("internal", str(error))
        except PylonError as error:
            failure = SubFailure("unreachable", str(error))
        except asyncio.CancelledError:
            failure = SubFailure("cancelled", "the run was ended")
            raise
        except Exception:
            logger.exception("sub-calls failed")
        finally:
            # First all of them, whatever writing down brings.
            unfinished = [call for call in calls if self._hand_over(call, failure)]
            batch.end(self._late)
            for call in unfinished:
                self._note(call, failure)

    def _hear(self, batch: Batch, calls: Sequence[Call], charge: Charge) -> None:
        """What is told of the cost of calls that went out together."""
        caller, tab = calls[0].caller, batch.tab
        tab.hear(charge)
        if isinstance(charge, Reserved):
            self._late.reserved(tab, batch.most_msat or 0, caller.loop, caller.turn, [call.id for call in calls])
        if isinstance(charge, Beside):
            caller.budget.book(Cost(charge.msat))
            self._late.note(caller.loop, caller.turn, charge.msat, tab.named.get("ask"))

    def _finish(self, call: Call, outcome: SubOutcome) -> None:
        if self._hand_over(call, outcome):
            self._note(call, outcome)

    def _hand_over(self, call: Call, outcome: SubOutcome) -> bool:
        """Gives a call its outcome. False when it has one."""
        if call.outcome.done():
            return False
        call.spent = Cost(calls=1)
        if isinstance(outcome, SubAnswer):
            call.spent = Cost(outcome.msat, 1, _tokens(call.job, outcome))
        elif outcome.code == f"budget_{Bound.SATS}":
            self.refused.add(Bound.SATS)
        if isinstance(outcome, SubFailure) and self._memo.get(_key(call)) is call:
            del self._memo[_key(call)]
        self._unclaim(call)
        call.job = replace(call.job, prompt="")
        call.outcome.set_result(outcome)
        return True

    def _unclaim(self, call: Call) -> None:
        self._trajectory.release(call.claimed)
        call.claimed = 0

    def _note(self, call: Call, outcome: SubOutcome) -> None:
        """Writes down what became of a call."""
        # Whoever writes next in the loop is told too, and that ends the run.
        with suppress(TrajectoryError):
            row = asdict(outcome)
            if isinstance(outcome, SubAnswer):
                row |= {"text": self._trajectory.text(outcome.text), "tokens": call.spent.tokens}
            self._write("returned", call, prompt=call.named, **row)

    def _write(self, kind: str, call: Call, /, **fields: object) -> None:
        self._trajectory.write(kind, loop=call.caller.loop, turn=call.caller.turn, call=call.id, **fields)
