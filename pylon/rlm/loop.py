"""Runs one loop of a Recursive Language Model (arXiv 2512.24601): root model ↔ REPL, turn by turn.

A loop ends with an answer; or when turns or budget run out, or its root fails, falls silent, repeats itself or writes
no code. Then the root gets one last turn to answer in plain words, and that answer is marked partial.
"""

from pylon.errors import SandboxError
from pylon.rlm import budget_hints, prompts
from pylon.rlm.cells import Cells
from pylon.rlm.finals import Meant, meant
from pylon.rlm.gate import Gate
from pylon.rlm.last_turn import LastTurn
from pylon.rlm.late import LateCharges
from pylon.rlm.loop_state import LoopEnd, LoopOutcome, LoopState, Reason
from pylon.rlm.parsing import Final, Turn, parse_turn
from pylon.rlm.repl.protocol import CellOutcome, Repl
from pylon.rlm.root import Reply, Root
from pylon.rlm.root_chat import RootChat

# A root that was cut off this often before it wrote any code or answer would be cut off again.
_BLANK_TURNS = 2


class Loop:
    """One loop. Its REPL has to be open; `run` is called once."""

    def __init__(self, state: LoopState, root: Root, repl: Repl, gate: Gate, late: LateCharges) -> None:
        self._state = state
        self._settings = state.settings
        self._chat = RootChat(state, root, gate, late)
        self._cells = Cells(state, repl)
        self._last = LastTurn(state, self._chat, self._cells, gate)
        self._idle = 0
        self._blank = 0
        self._codes: list[tuple[str, ...]] = []
        self._unseen: Final | None = None
        self._unclear: Final | None = None

    async def run(self) -> LoopOutcome:
        """Takes turns until there is an answer, or a reason to stop without one."""
        self._last.keep()
        try:
            try:
                return await self._turns()
            except LoopEnd as end:
                return await self._last.take(end)
        finally:
            self._last.release()

    async def _turns(self) -> LoopOutcome:
        state = self._state
        while state.turn < self._settings.turns:
            state.turn += 1
            reply = await self._chat.ask()
            answer = await self._take(reply)
            state.book()
            if answer is not None:
                # `lacks` belongs to the answer that the code left, and not to another one given in prose.
                lacks = self._cells.lacks if answer == self._cells.answer else ""
                return LoopOutcome(answer, partial=bool(lacks), reason=Reason.FINAL, turns=state.turn, detail=lacks)
            if self._blank >= _BLANK_TURNS:
                raise LoopEnd(
                    Reason.NO_CODE, f"{self._blank} turns in a row were cut off before there was any code or answer",
                    hint=prompts.MORE_TOKENS, in_vain=state.turn == self._blank,
                )  # fmt: skip
            if self._idle >= self._settings.idle_turns:
                detail = f"{self._idle} turns in a row without anything to run"
                if reply.cut_off:
                    raise LoopEnd(Reason.NO_CODE, f"{detail}, the last one cut off", hint=prompts.MORE_TOKENS)
                raise LoopEnd(Reason.NO_CODE, detail)
        raise LoopEnd(Reason.TURNS, f"no answer within {state.turn} turns", hint=budget_hints.MORE_TURNS)

    async def _take(self, reply: Reply) -> str | None:
        """Runs the code of a turn and shows the root the result; returns the answer if the turn gives one."""
        turn = parse_turn(reply.text, cut_off=reply.cut_off)
        blank = reply.cut_off and not (turn.blocks or turn.cut_off or turn.final)
        self._blank = self._blank + 1 if blank else 0
        complaint = prompts.cut_short(self._chat.root.max_tokens) if blank else self._complaint(turn)
        if complaint:
            self._idle += 1
            self._chat.show(reply, complaint)
            return None
        outcomes: list[CellOutcome] = []
        runnable = turn.blocks[: self._settings.blocks]
        left_out = len(turn.blocks) - len(runnable)
        for number, code in enumerate(runnable):
            outcome = await self._cells.run(number, code)
            outcomes.append(outcome)
            if outcome.gives_answer and outcome.answer is not None:
                return outcome.answer.content
            if outcome.error is not None:
                break
        if left_out:
            # Like code that failed: what stands beside it in prose was said for code that was not run.
            answer, remark = None, prompts.too_many(len(turn.blocks), len(runnable))
        else:
            answer, remark = await self._finals(turn, outcomes)
        if answer is not None:
            return answer
        self._idle = 0 if outcomes else self._idle + 1
        status = self._state.status()
        shown = prompts.shown(outcomes, self._settings.output_chars, status) if outcomes else ""
        unrun = prompts.LAST_CUT_OFF if turn.cut_off else ""
        self._chat.show(reply, "\n\n".join(part for part in (shown, unrun, remark) if part))
        return None

    def _complaint(self, turn: Turn) -> str:
        """What is wrong with a turn, for the root, before any of it runs; empty if nothing is. Raises `LoopEnd` when
        the same code has come too often."""
        longest = max((len(code) for code in turn.blocks), default=0)
        if longest > self._settings.code_chars:
            return prompts.too_long(longest, self._settings.code_chars)
        if turn.cut_off and not turn.blocks:
            return prompts.CUT_OFF
        if turn.final_cut_off and not turn.blocks:
            return prompts.ANSWER_CUT_OFF
        if not turn.blocks:
            return "" if turn.final is not None else prompts.NO_CODE
        self._codes = self._codes if self._codes[-1:] == [turn.blocks] else []
        self._codes.append(turn.blocks)
        if len(self._codes) >= self._settings.repeats:
            raise LoopEnd(Reason.REPEATED, f"the same code {len(self._codes)} times in a row")
        return prompts.REPEATED if len(self._codes) > 1 and turn.final is None else ""

    async def _finals(self, turn: Turn, outcomes: list[CellOutcome]) -> tuple[str | None, str]:
        """The answer that a turn gives in prose, or a remark for the root on why it is not taken."""
        final = turn.final
        if final is None or (outcomes and outcomes[-1].error is not None):
            return None, ""
        if turn.final_cut_off:
            return None, prompts.ANSWER_CUT_OFF
        means = Meant.VARIABLE if final.variable == "answer" else meant(final, self._cells.variables)
        if means is Meant.EITHER and final != self._unclear:
            self._unclear = final
            return None, prompts.unclear(final, self._cells.variables[final.variable])
        try:
            value = await self._cells.value(final) if means is Meant.VARIABLE else None
        except SandboxError as error:
            return None, prompts.no_variable(final, str(error))
        if value is not None:
            return value, ""
        if final.variable == "answer":
            return None, prompts.no_variable(final, "`answer` holds nothing yet")
        if not final.text:
            return None, prompts.no_variable(final, "there is no such variable")
        if outcomes and any(outcome.stdout.strip() for outcome in outcomes) and final != self._unseen:
            self._unseen = final
            return None, prompts.UNSEEN
        return final.text, ""
