"""A loop's end without an answer: one last turn in which its root says in plain words what it has.

What that may cost is set aside at the start, so that there is one however the budget ends.
"""

from contextlib import suppress

from pylon.errors import SandboxError
from pylon.rlm import prompts
from pylon.rlm.budget import Cost, Refusal, Reservation
from pylon.rlm.cells import Cells
from pylon.rlm.course import Course, LoopEnd, LoopOutcome, Reason
from pylon.rlm.finals import Meant, meant
from pylon.rlm.gate import Gate
from pylon.rlm.history import cut
from pylon.rlm.parsing import parse_turn
from pylon.rlm.root import Message, RootError
from pylon.rlm.talk import Talk

# Of what the last turn may take, in case it has to be asked for again.
_AGAIN_SHARE = 0.1


class LastTurn:
    """See the module: `keep` first, then `take` where it comes to that, and `release` in any case."""

    def __init__(self, course: Course, talk: Talk, cells: Cells, gate: Gate) -> None:
        self._course = course
        self._talk = talk
        self._cells = cells
        self._gate = gate
        self._kept: Reservation | None = None

    def keep(self) -> None:
        """Sets aside what it will need."""
        root = self._talk.root
        if not root.max_tokens:
            return  # a program, that has no last turn
        tokens = root.context_tokens
        left = self._course.left().tokens
        if left is not None:
            tokens = min(tokens, left // 4)
        cost = Cost(root.most_msat, 0, tokens, turns=1)
        kept = self._course.budget.reserve(cost, now=self._course.clock.monotonic(), keep=True)
        self._kept = None if isinstance(kept, Refusal) else kept

    def release(self) -> None:
        """Lets go of what was set aside and not spent."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._gate.settle(self._course.budget, kept, Cost())

    async def take(self, end: LoopEnd) -> LoopOutcome:
        """What comes of it; where there can be none, what the REPL's `answer` holds so far."""
        answer: str | None = self._cells.answer or None
        turns, detail, fault = self._course.turn, end.detail, end.fault
        # Whoever refused for good refuses again, and a root that never said a word has nothing to put together.
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
                    answer = cut(self._cells.printed, self._course.settings.output_chars)
                    detail = f"{detail}; the root model gave no answer in words, this is what its code printed last"
        if self._cells.lacks and answer == self._cells.answer:
            detail = f"{detail}; {self._cells.lacks}"
        hint = end.hint if fault is None else fault.hint
        return LoopOutcome(
            answer, partial=True, reason=end.reason, turns=turns, detail=detail, hint=hint, fault=fault
        )  # fmt: skip

    async def _said(self, kept: Reservation) -> tuple[str, bool]:
        """What the root says, and whether that was cut off; it is asked once more when it is code and the budget
        allows it. Raises `RootError`, `TimeoutError`."""
        clock, last_s = self._course.clock, self._course.settings.last_s
        ends_at = clock.monotonic() + last_s
        spare = int(kept.cost.tokens * _AGAIN_SHARE)
        room = max(1, kept.cost.tokens - self._talk.root.max_tokens - spare)
        messages = [*self._talk.so_far(room), Message("user", prompts.extraction(self._course.task.question))]
        reply = await self._talk.reply(messages, kept, last_s, last=True)
        said = await self._plain(reply.text)
        if said or reply.cut_off:
            return said, reply.cut_off
        messages += [Message("assistant", cut(reply.text, spare)), Message("user", prompts.last_again())]
        now = clock.monotonic()
        again = self._course.budget.reserve(self._talk.most(messages), now=now)
        if isinstance(again, Refusal):
            return "", False
        with suppress(RootError, TimeoutError):
            reply = await self._talk.reply(messages, again, max(0.0, ends_at - now), last=True)
            return await self._plain(reply.text), reply.cut_off
        return "", False

    async def _plain(self, text: str) -> str:
        """The answer in those words."""
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
