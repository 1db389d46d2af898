"""The last turn of a loop that ends without an answer: its root says in plain words what it has found.

The cost of that turn is set aside when the loop begins, so that it can be taken even when the budget runs out.
"""

from contextlib import suppress

from pylon.errors import SandboxError
from pylon.rlm import prompts
from pylon.rlm.budget import Cost, Refusal, Reservation
from pylon.rlm.cells import Cells
from pylon.rlm.finals import Meant, meant
from pylon.rlm.gate import Gate
from pylon.rlm.history import cut
from pylon.rlm.loop_state import LoopEnd, LoopOutcome, LoopState, Reason
from pylon.rlm.parsing import parse_turn
from pylon.rlm.root import Message, RootError
from pylon.rlm.root_chat import RootChat

# The share of the last turn's tokens that is kept for asking once more.
_AGAIN_SHARE = 0.1


class LastTurn:
    """The last turn of one loop: call `keep` first, `take` if the loop needs it, and `release` in any case."""

    def __init__(self, state: LoopState, chat: RootChat, cells: Cells, gate: Gate) -> None:
        self._state = state
        self._chat = chat
        self._cells = cells
        self._gate = gate
        self._kept: Reservation | None = None

    def keep(self) -> None:
        """Sets aside what the last turn may cost, if the budget has it."""
        root = self._chat.root
        if not root.max_tokens:
            return  # a program in the root's place has no last turn
        tokens = root.context_tokens
        left = self._state.left().tokens
        if left is not None:
            tokens = min(tokens, left // 4)
        cost = Cost(root.most_msat, 0, tokens, turns=1)
        kept = self._state.budget.reserve(cost, now=self._state.clock.monotonic(), keep=True)
        self._kept = None if isinstance(kept, Refusal) else kept

    def release(self) -> None:
        """Gives back what was set aside and not used."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._gate.settle(self._state.budget, kept, Cost())

    async def take(self, end: LoopEnd) -> LoopOutcome:
        """Takes the last turn and returns the loop's outcome. If the turn cannot be taken or brings no answer, the
        answer is what the REPL's `answer` holds, or what the code printed last."""
        answer: str | None = self._cells.answer or None
        turns, detail, fault = self._state.turn, end.detail, end.fault
        # A root that refused for good would refuse again, and one that never replied has nothing to sum up.
        refused = fault is not None and (fault.lasting or turns == 1)
        if end.in_vain or refused or end.reason is Reason.ROOT_SILENT:
            self.release()
        kept, self._kept = self._kept, None
        if kept is not None:
            try:
                said, cut_off = await self._said(kept)
            except (RootError, TimeoutError) as error:
                detail = f"{detail}; the last turn failed ({str(error) or 'no reply in time'})"
            else:
                if cut_off:
                    detail = f"{detail}; the last turn was cut off at its limit of tokens"
                answer = said or answer
                if answer is None and self._cells.printed:
                    answer = cut(self._cells.printed, self._state.settings.output_chars)
                    detail = f"{detail}; the root model gave no answer in words, this is what its code printed last"
        if self._cells.lacks and answer == self._cells.answer:
            detail = f"{detail}; {self._cells.lacks}"
        hint = end.hint if fault is None else fault.hint
        return LoopOutcome(
            answer, partial=True, reason=end.reason, turns=turns, detail=detail, hint=hint, fault=fault
        )  # fmt: skip

    async def _said(self, kept: Reservation) -> tuple[str, bool]:
        """The root's answer, and whether it was cut off. If the root writes code, it is asked once more if the budget
        allows it. Raises `RootError`, `TimeoutError`."""
        clock, last_s = self._state.clock, self._state.settings.last_s
        ends_at = clock.monotonic() + last_s
        spare = int(kept.cost.tokens * _AGAIN_SHARE)
        room = max(1, kept.cost.tokens - self._chat.root.max_tokens - spare)
        messages = [*self._chat.so_far(room), Message("user", prompts.extraction(self._state.task.question))]
        reply = await self._chat.reply(messages, kept, last_s, last=True)
        said = await self._plain(reply.text)
        if said or reply.cut_off:
            return said, reply.cut_off
        messages += [Message("assistant", cut(reply.text, spare)), Message("user", prompts.last_again())]
        now = clock.monotonic()
        again = self._state.budget.reserve(self._chat.most(messages), now=now)
        if isinstance(again, Refusal):
            return "", False
        with suppress(RootError, TimeoutError):
            reply = await self._chat.reply(messages, again, max(0.0, ends_at - now), last=True)
            return await self._plain(reply.text), reply.cut_off
        return "", False

    async def _plain(self, text: str) -> str:
        """The answer that a reply gives in plain words; empty if it is only code."""
        turn = parse_turn(text)
        if turn.final is None:
            return turn.prose
        word = turn.final.variable != "answer" and meant(turn.final, self._cells.variables) is not Meant.VARIABLE
        if word:
            return turn.final.text
        with suppress(SandboxError):
            if (value := await self._cells.value(turn.final)) is not None:
                return value
        return "" if turn.final.variable == "answer" else turn.final.text
