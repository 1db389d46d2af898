"""One loop of a Recursive Language Model (arXiv 2512.24601): root LM ↔ REPL, turn by turn.

What ends it: an answer; or turns, budget, a root that fails, falls silent, repeats itself or writes no code. Then the
root has one last turn in plain words, and its answer is marked partial.
"""

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum

from pylon import log
from pylon.clock import Clock
from pylon.errors import PylonError, SandboxError
from pylon.rlm import prompts
from pylon.rlm.budget import Bound, Budget, Cost, Left, Refusal, Reservation
from pylon.rlm.gate import Gate
from pylon.rlm.history import History, cut
from pylon.rlm.parsing import Final, Turn, parse_turn
from pylon.rlm.repl.protocol import Answer, CellOutcome, Repl, UnknownVariableError
from pylon.rlm.root import Message, Reply, Root, RootError, estimate_tokens, meaning
from pylon.rlm.settings import LoopSettings
from pylon.rlm.trajectory import Trajectory

logger = log.get("rlm")

# Of the root's window: the chat, its reply, and some room for what we estimate badly.
_WINDOW_SHARE = 0.8
_REPLY_CHARS = 40_000
# Of what the last turn may take, in case it has to be asked for again.
_AGAIN_SHARE = 0.1
# A cell that computes beyond its own limit for so long has lost its sandbox.
_CELL_GRACE_S = 10.0


class Reason(StrEnum):
    """Why a loop ended."""

    FINAL = "final"
    TURNS = "turns"
    BUDGET = "budget"
    ROOT_FAILED = "root_failed"
    ROOT_SILENT = "root_silent"
    NO_CODE = "no_code"
    REPEATED = "repeated"
    SANDBOX = "sandbox"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class LoopOutcome:
    """`answer` None: there is not even a partial one. `detail` says for people what `reason` cannot; `fault` is what
    a root failed with."""

    answer: str | None
    partial: bool
    reason: Reason
    turns: int
    detail: str = ""
    fault: RootError | None = None


@dataclass(frozen=True, slots=True)
class LoopTask:
    """`name` is unique in its run, `question` None when the task stands in the context itself."""

    name: str
    question: str | None
    system: str
    opening: str
    budget: Budget


class _End(Exception):  # noqa: N818 - it ends the turns, and is no error
    def __init__(self, reason: Reason, detail: str = "", fault: RootError | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.fault = fault


class Loop:
    """See the module. The REPL is open; `run` is called once. `turn` is the turn that is under way."""

    def __init__(
        self,
        task: LoopTask,
        root: Root,
        repl: Repl,
        gate: Gate,
        trajectory: Trajectory,
        clock: Clock,
        settings: LoopSettings,
    ) -> None:
        self.turn = 0
        self._task = task
        self._root = root
        self._repl = repl
        self._gate = gate
        self._trajectory = trajectory
        self._clock = clock
        self._settings = settings
        room = int(root.context_tokens * _WINDOW_SHARE) - root.max_tokens
        self._history = History(task.system, task.opening, limit_tokens=max(room, root.context_tokens // 4))
        self._idle = 0
        self._codes: list[tuple[str, ...]] = []
        self._unseen: Final | None = None
        self._answer = ""
        self._lacks = ""
        self._printed = ""
        self._kept: Reservation | None = None

    async def run(self) -> LoopOutcome:
        """Turn after turn until there is an answer, or a reason to stop without."""
        self._keep()
        try:
            try:
                return await self._turns()
            except _End as end:
                return await self._last(end)
        finally:
            if self._kept is not None:
                self._gate.settle(self._task.budget, self._kept, Cost())

    async def _turns(self) -> LoopOutcome:
        while self.turn < self._settings.turns:
            self.turn += 1
            reply = await self._ask()
            answer = await self._take(reply)
            self._write("budget", spent=asdict(self._task.budget.spent), left=asdict(self._left()))
            if answer is not None:
                lacks = self._lacks
                return LoopOutcome(answer, partial=bool(lacks), reason=Reason.FINAL, turns=self.turn, detail=lacks)
            if self._idle >= self._settings.idle_turns:
                raise _End(Reason.NO_CODE, f"{self._idle} turns in a row without anything to run")
        raise _End(Reason.TURNS, f"no answer within {self.turn} turns")

    # --- the root ---------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Sets aside what the last turn will need, so that there is one however the budget ends."""
        if not self._root.max_tokens:
            return  # a program, that has no last turn
        tokens = self._root.context_tokens
        left = self._left().tokens
        if left is not None:
            tokens = min(tokens, left // 4)
        cost = Cost(self._root.most_msat, 0, tokens)
        kept = self._task.budget.reserve(cost, now=self._clock.monotonic(), keep=True)
        self._kept = None if isinstance(kept, Refusal) else kept

    async def _ask(self) -> Reply:
        """The root's next turn. Raises `_End`."""
        messages = self._history.messages()
        cost = Cost(self._root.most_msat, 0, estimate_tokens(messages) + self._root.max_tokens)
        reservation = await self._gate.wait(self._task.budget, cost)
        if isinstance(reservation, Refusal):
            raise _End(Reason.BUDGET, reservation.message)
        wall = self._left().wall_s
        timeout = self._settings.root_timeout_s
        try:
            return await self._reply(messages, reservation, timeout if wall is None else min(timeout, wall))
        except TimeoutError:
            if wall is not None and wall < timeout:
                raise _End(Reason.BUDGET, Refusal(Bound.WALL, 0, 0).message) from None
            raise _End(Reason.ROOT_SILENT, f"the root model gave no reply within {timeout:g} s") from None
        except RootError as error:
            raise _End(Reason.ROOT_FAILED, str(error), error) from error

    async def _reply(
        self, messages: list[Message], reservation: Reservation, timeout: float, *, last: bool = False
    ) -> Reply:
        """Asks, books and writes down. Raises `RootError`, `TimeoutError`."""
        started = self._clock.monotonic()
        spent = Cost()
        try:
            async with asyncio.timeout(timeout):
                reply = await self._said_by_root(messages)
            spent = Cost(reply.msat, 0, reply.prompt_tokens + reply.completion_tokens)
        except RootError as error:
            spent = Cost(error.msat)
            if error.msat:
                self._write("charged", msat=error.msat)
            raise
        finally:
            self._gate.settle(self._task.budget, reservation, spent)
        self._history.counted(reply.prompt_tokens, messages)
        self._write(
            "turn", last=last, reply=self._trajectory.text(reply.text), model=reply.model, msat=reply.msat,
            prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens,
            ms=round(1_000 * (self._clock.monotonic() - started)), compactions=self._history.compactions,
        )  # fmt: skip
        return reply

    async def _said_by_root(self, messages: list[Message]) -> Reply:
        """The reply, or `RootError` whatever it was that failed: a run ends with its reason, and with what it has."""
        try:
            return await self._root.reply(messages, loop=self._task.name)
        except (RootError, TimeoutError):
            raise
        except PylonError as error:
            raise RootError(str(error), hint=error.hint, lasting=False, means=meaning(error)) from error
        except Exception as error:
            logger.exception("the root model failed inside")
            raise RootError(f"the root model failed inside ({type(error).__name__})", lasting=False) from error

    async def _last(self, end: _End) -> LoopOutcome:
        """The extraction turn; where there can be none, what the REPL's `answer` holds so far."""
        answer: str | None = self._answer or None
        detail, fault = end.detail, end.fault
        # Whoever refused for good refuses again, and a root that never said a word has nothing to put together.
        in_vain = end.reason is Reason.ROOT_SILENT or (fault is not None and (fault.lasting or self.turn == 1))
        kept, self._kept = self._kept, None
        if kept is not None and in_vain:
            self._gate.settle(self._task.budget, kept, Cost())
        elif kept is not None:
            try:
                said = await self._said_last(kept)
            except (RootError, TimeoutError) as error:
                detail = f"{detail}; the last turn failed ({error or 'no reply'})"
            else:
                answer = said or answer
                if answer is None and self._printed:
                    answer = cut(self._printed, self._settings.output_chars)
                    detail = f"{detail}; the root model gave no answer in words, this is what its code printed last"
        return LoopOutcome(answer, partial=True, reason=end.reason, turns=self.turn, detail=detail, fault=fault)

    async def _said_last(self, kept: Reservation) -> str:
        """What the root says in its last turn; it is asked once more when that is code and the budget allows it.
        Raises `RootError`, `TimeoutError`."""
        ends_at = self._clock.monotonic() + self._settings.last_s
        spare = int(kept.cost.tokens * _AGAIN_SHARE)
        room = max(1, kept.cost.tokens - self._root.max_tokens - spare)
        messages = [*self._history.messages(room), Message("user", prompts.extraction(self._task.question))]
        reply = await self._reply(messages, kept, self._settings.last_s, last=True)
        said = await self._plain(reply.text)
        if said:
            return said
        messages += [Message("assistant", cut(reply.text, spare)), Message("user", prompts.last_again())]
        cost = Cost(self._root.most_msat, 0, estimate_tokens(messages) + self._root.max_tokens)
        now = self._clock.monotonic()
        again = self._task.budget.reserve(cost, now=now)
        if isinstance(again, Refusal):
            return ""
        with suppress(RootError, TimeoutError):
            return await self._plain((await self._reply(messages, again, max(0.0, ends_at - now), last=True)).text)
        return ""

    async def _plain(self, text: str) -> str:
        """The answer in the words of a last turn."""
        turn = parse_turn(text)
        if turn.final is None:
            return turn.prose
        with suppress(SandboxError):
            if (value := await self._value(turn.final)) is not None:
                return value
        return "" if turn.final.variable == "answer" else turn.final.text

    # --- a turn -----------------------------------------------------------------------------------------------

    async def _take(self, reply: Reply) -> str | None:
        """Does what a turn says; the answer, if it gives one."""
        turn = parse_turn(reply.text)
        complaint = self._complaint(turn)
        if complaint:
            self._idle += 1
            self._show(reply, complaint)
            return None
        outcomes: list[CellOutcome] = []
        for number, code in enumerate(turn.blocks):
            outcome = await self._cell(number, code)
            outcomes.append(outcome)
            if outcome.answer is not None and outcome.answer.ready:
                return outcome.answer.content
            if outcome.error is not None:
                break
        answer, remark = await self._finals(turn.final, outcomes)
        if answer is not None:
            return answer
        self._idle = 0 if outcomes else self._idle + 1
        shown = prompts.shown(outcomes, self._settings.output_chars, self._status()) if outcomes else ""
        self._show(reply, "\n\n".join(part for part in (shown, remark) if part))
        return None

    def _complaint(self, turn: Turn) -> str:
        """What is wrong with a turn, before any of it runs. Raises `_End` when it goes on so."""
        longest = max((len(code) for code in turn.blocks), default=0)
        if longest > self._settings.code_chars:
            return prompts.too_long(longest, self._settings.code_chars)
        if turn.cut_off and not turn.blocks:
            return prompts.CUT_OFF
        if not turn.blocks:
            return "" if turn.final is not None else prompts.NO_CODE
        self._codes = self._codes if self._codes[-1:] == [turn.blocks] else []
        self._codes.append(turn.blocks)
        if len(self._codes) >= self._settings.repeats:
            raise _End(Reason.REPEATED, f"the same code {len(self._codes)} times in a row")
        return prompts.REPEATED if len(self._codes) > 1 and turn.final is None else ""

    async def _finals(self, final: Final | None, outcomes: list[CellOutcome]) -> tuple[str | None, str]:
        """The answer that a turn gives in prose, or what is to be said of it."""
        if final is None or (outcomes and outcomes[-1].error is not None):
            return None, ""
        try:
            value = await self._value(final)
        except SandboxError as error:
            return None, prompts.no_variable(final, str(error))
        if value is not None:
            return value, ""
        if final.variable == "answer":
            return None, prompts.no_variable(final, "`answer` holds nothing yet.")
        if not final.text:
            return None, prompts.no_variable(final, "there is no such variable.")
        if outcomes and any(outcome.stdout.strip() for outcome in outcomes) and final != self._unseen:
            self._unseen = final
            return None, prompts.UNSEEN
        return final.text, ""

    async def _value(self, final: Final) -> str | None:
        """The text of the variable that is named, or None when there is none. Raises `SandboxError`."""
        if not final.variable:
            return None
        if final.variable == "answer":
            # What it holds when nothing was put there is no answer.
            return self._answer or None
        try:
            return await self._repl.value(final.variable)
        except UnknownVariableError:
            return None

    async def _cell(self, number: int, code: str) -> CellOutcome:
        """Runs one block. Raises `_End` when the sandbox is lost."""
        started = self._clock.monotonic()
        wall = self._left().wall_s
        timeout = None if wall is None else wall + self._settings.cell.seconds + _CELL_GRACE_S
        try:
            async with asyncio.timeout(timeout):
                outcome = await self._repl.run(code)
        except TimeoutError:
            raise _End(Reason.BUDGET, Refusal(Bound.WALL, 0, 0).message) from None
        except SandboxError as error:
            raise _End(Reason.SANDBOX, str(error)) from error
        if outcome.answer is not None:
            self._answer, self._lacks = outcome.answer.content, outcome.answer.partial
        self._printed = outcome.stdout.strip() or self._printed
        self._write(
            "cell", cell=number, code=self._trajectory.text(code), stdout=self._trajectory.text(outcome.stdout),
            stderr=self._trajectory.text(outcome.stderr), truncated=outcome.truncated,
            error=None if outcome.error is None else asdict(outcome.error),
            seconds=round(outcome.seconds, 3), wall_s=round(self._clock.monotonic() - started, 3),
            answer=None if outcome.answer is None else self._said(outcome.answer),
            variables=[asdict(variable) for variable in outcome.variables],
        )  # fmt: skip
        return outcome

    def _said(self, answer: Answer) -> dict[str, object]:
        return {
            "ready": answer.ready, "partial": answer.partial, "content": self._trajectory.text(answer.content),
        }  # fmt: skip

    def _show(self, reply: Reply, text: str) -> None:
        self._history.add(reply.text, text, reply_chars=_REPLY_CHARS)
        self._write("shown", text=self._trajectory.text(text))

    def _status(self) -> str:
        """One line on where the loop stands."""
        left = self._left()
        parts = [f"turn {self.turn} of {self._settings.turns}"]
        if left.calls is not None:
            parts.append(f"{left.calls:,} sub-calls left")
        if left.msat is not None:
            parts.append(f"{left.msat / 1000:,.3f} sats left")
        if left.tokens is not None:
            parts.append(f"{left.tokens:,} tokens left")
        if left.wall_s is not None:
            parts.append(f"{left.wall_s:.0f} s left")
        return f"[{'; '.join(parts)}]"

    def _left(self) -> Left:
        return self._task.budget.left(now=self._clock.monotonic())

    def _write(self, kind: str, **fields: object) -> None:
        self._trajectory.write(kind, loop=self._task.name, turn=self.turn, **fields)
