"""The sub-calls of a run (`llm_query`): admits them to the budget, sends them together, and records each.

All loops of a run share one runner. At temperature 0 equal prompts are asked once.
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
from pylon.rlm.charges import Charge, ExtraCharge, Reserved
from pylon.rlm.gate import Gate
from pylon.rlm.late import LateCharges
from pylon.rlm.recorded_run import RecordedRun
from pylon.rlm.settings import SubSettings
from pylon.rlm.sublm import Job, SubAnswer, SubFailure, SubLM, SubOutcome
from pylon.rlm.trajectory import Trajectory, TrajectoryError, text_ref
from pylon.rlm.unsettled import Unsettled
from pylon.tasks import end

logger = log.get("rlm")

# For reservations, which should rather be too large: prose has at most one token for three characters.
_CHARS_PER_TOKEN = 3


def call_seed(seed: int, call: str) -> int:
    """The seed of one call of a run: below 2^31, which all engines take. Equal prompts that are drawn twice differ,
    and a run that makes the same calls again gives each the seed that it had."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{call}".encode()).digest()[:4], "big") >> 1


def _tokens(job: Job, answer: SubAnswer) -> int:
    """The tokens that an answer is booked for: what its provider reports, up to what is possible. A provider that
    charges nothing has no reason to report truly, and one large number would use up the run's tokens. No tokenizer
    makes more than one token of a byte."""
    read = min(answer.prompt_tokens, text_bytes(job.prompt) + TEMPLATE_TOKENS)
    return max(0, read) + max(0, min(answer.completion_tokens, job.max_tokens))


def _key(call: Call) -> tuple[str | None, str]:
    return (call.job.model, call.named["sha256"])


class SubCallRunner:
    """Asks sub-calls. `refused` holds the bounds of the budget that refused one; `late` handles what is charged after
    an ask has ended; `recorded` has the outcomes of a resumed run."""

    def __init__(
        self,
        sub: SubLM,
        settings: SubSettings,
        gate: Gate,
        trajectory: Trajectory,
        clock: Clock,
        late: LateCharges | None = None,
        recorded: RecordedRun | None = None,
    ) -> None:
        self.settings = settings
        self.refused: set[Bound] = set()
        self._sub = sub
        self._gate = gate
        self._trajectory = trajectory
        self._clock = clock
        self._late = late or LateCharges(Unsettled(gate), trajectory)
        self._recorded = recorded or RecordedRun()
        self._granted: list[Call] = []
        self._asking: set[asyncio.Task[None]] = set()
        # Calls whose outcome equal ones share, by model and hash of the prompt.
        self._memo: dict[tuple[str | None, str], Call] = {}

    async def ask(
        self, caller: Caller, ids: Sequence[str], prompts: Sequence[str], model: str | None
    ) -> list[SubOutcome]:
        """Asks prompts; returns the outcomes in the same order. `ids` are the names of the calls. Cancelling it drops
        those that have not been sent yet."""
        calls: list[Call] = []
        for name, prompt in zip(ids, prompts, strict=True):
            call = self._call(caller, name, prompt, model)
            if (refused := caller.budget.too_long(len(prompt))) is not None:
                # Refused before it is queued: such prompts may be huge and many.
                self._refuse(call, refused)
                calls.append(call)
                continue
            known = self._equal_call(call)
            if known is None and not self._take_recorded(call):
                self._queue(call)
            calls.append(known or call)
            calls[-1].waiters += 1
        try:
            # Shielded, since an equal prompt of another cell may wait for the same outcome.
            return [await asyncio.shield(call.outcome) for call in calls]
        except asyncio.CancelledError:
            self._drop(calls)
            raise

    async def close(self) -> None:
        """Cancels the calls in flight and those that have not been sent."""
        try:
            await end(*self._asking)
        finally:
            unsent, self._granted = self._granted, []
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
        return Call(name, caller, job, asyncio.get_running_loop().create_future(), text_ref(prompt))

    def _equal_call(self, call: Call) -> Call | None:
        """An earlier call of an equal prompt whose outcome this one shares."""
        if self.settings.temperature > 0:
            return None
        known = self._memo.setdefault(_key(call), call)
        if known is call:
            return None
        self._write("repeated", call, model=call.job.model, prompt=call.named)
        return known

    def _take_recorded(self, call: Call) -> bool:
        """Gives a call its recorded outcome, if the run is resumed and has one. False for a call to be asked."""
        caller = call.caller
        found = self._recorded.call(caller.loop, call.id, call.job.model, call.named["sha256"])
        if found is None:
            if (fault := self._recorded.fault) is not None:
                # The run has left its record and ends: nothing more is asked for it.
                self._finish(call, SubFailure("cancelled", str(fault)))
            return fault is not None
        events, outcome = found
        for event in events:
            self._trajectory.copy(event, loop=caller.loop, call=call.id)
        if isinstance(outcome, SubFailure) and (bound := outcome.code.removeprefix("budget_")) in set(Bound):
            self.refused.add(Bound(bound))
        self._hand_over(call, outcome)
        return True

    def _queue(self, call: Call) -> None:
        """Asks the budget for a call, to be sent when it is granted."""
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
            if not self._granted:
                # All calls that are granted in this iteration of the event loop are sent together.
                asyncio.get_running_loop().call_soon(self._send)
            self._granted.append(call)

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
        for call in self._granted:
            by_budget.setdefault(call.caller.budget, []).append(call)
        self._granted = []
        for budget, calls in by_budget.items():
            # Started eagerly: a task that is cancelled before its first step would leave its calls without outcomes.
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
                            # The run ends, so the other calls are cancelled instead of paid.
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
            # All calls get their outcome before any is recorded, as recording may fail.
            unfinished = [call for call in calls if self._hand_over(call, failure)]
            batch.end(self._late)
            for call in unfinished:
                self._note(call, failure)

    def _hear(self, batch: Batch, calls: Sequence[Call], charge: Charge) -> None:
        """Books and records what is reported of the cost of calls that were sent together."""
        caller, tab = calls[0].caller, batch.tab
        tab.hear(charge)
        if isinstance(charge, Reserved):
            self._late.reserved(tab, batch.most_msat or 0, caller.loop, caller.turn, [call.id for call in calls])
        if isinstance(charge, ExtraCharge):
            caller.budget.book(Cost(charge.msat))
            self._late.note(caller.loop, caller.turn, charge.msat, tab.named.get("ask"))

    def _finish(self, call: Call, outcome: SubOutcome) -> None:
        if self._hand_over(call, outcome):
            self._note(call, outcome)

    def _hand_over(self, call: Call, outcome: SubOutcome) -> bool:
        """Gives a call its outcome. False if it has one already."""
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
        """Writes the `returned` event of a call."""
        # The next write by the loop raises this too, which ends the run.
        with suppress(TrajectoryError):
            row = asdict(outcome)
            if isinstance(outcome, SubAnswer):
                row |= {"text": self._trajectory.text(outcome.text), "tokens": call.spent.tokens}
            self._write("returned", call, prompt=call.named, **row)

    def _write(self, kind: str, call: Call, /, **fields: object) -> None:
        self._trajectory.write(kind, loop=call.caller.loop, turn=call.caller.turn, call=call.id, **fields)
