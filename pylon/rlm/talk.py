"""A loop's talk with its root model: what it is shown, what it replies, and what that costs."""

import asyncio
from functools import partial

from pylon import log
from pylon.errors import PylonError
from pylon.rlm.budget import Bound, Cost, Refusal, Reservation
from pylon.rlm.charges import Beside, Charge, Reserved, Tab
from pylon.rlm.course import Course, LoopEnd, Reason, out_of_budget
from pylon.rlm.gate import Gate
from pylon.rlm.history import History
from pylon.rlm.late import LateCharges
from pylon.rlm.root import Message, Reply, Root, RootError, estimate_tokens, meaning
from pylon.rlm.trajectory import Event

logger = log.get("rlm")

# Of the root's window: the chat, its reply, and some room for what we estimate badly.
_WINDOW_SHARE = 0.8
# Of a reply, in the chat.
_MOST_REPLY_CHARS = 40_000


class Talk:
    """See the module. `root` is whom it is with."""

    def __init__(self, course: Course, root: Root, gate: Gate, late: LateCharges) -> None:
        self.root = root
        self._course = course
        self._gate = gate
        self._late = late
        room = int(root.context_tokens * _WINDOW_SHARE) - root.max_tokens
        task = course.task
        self._history = History(task.system, task.opening, limit_tokens=max(room, root.context_tokens // 4))

    async def ask(self) -> Reply:
        """The root's next turn. Raises `LoopEnd`."""
        messages = self._history.messages()
        course = self._course
        if (was := course.earlier.turn(course.task.name, course.turn)) is not None:
            return self._again(was, messages)
        if course.trajectory.full:
            raise out_of_budget(Refusal(Bound.DISK, 0, 0))
        reservation = await self._gate.wait(self._course.budget, self.most(messages))
        if isinstance(reservation, Refusal):
            raise out_of_budget(reservation)
        wall = self._course.left().wall_s
        timeout = self._course.settings.root_timeout_s
        try:
            return await self.reply(messages, reservation, timeout if wall is None else min(timeout, wall))
        except TimeoutError:
            if wall is not None and wall < timeout:
                raise out_of_budget(Refusal(Bound.WALL, 0, 0)) from None
            raise LoopEnd(Reason.ROOT_SILENT, f"the root model gave no reply within {timeout:g} s") from None
        except RootError as error:
            raise LoopEnd(Reason.ROOT_FAILED, str(error), error) from error

    def _again(self, was: Event, messages: list[Message]) -> Reply:
        """What the root said before its run was taken up. It is paid for."""
        self._history.counted(was["prompt_tokens"], messages)
        self._course.copy(was)
        text = self._course.earlier.text(was, "reply")
        return Reply(text, was["prompt_tokens"], was["completion_tokens"], was["model"], finish=was.get("finish"))

    async def reply(
        self, messages: list[Message], reservation: Reservation, timeout: float, *, last: bool = False
    ) -> Reply:
        """Asks, books and writes down. `timeout` is in seconds. Raises `RootError`, `TimeoutError`."""
        course = self._course
        started = course.clock.monotonic()
        spent, tab = Cost(turns=reservation.cost.turns), Tab()
        try:
            async with asyncio.timeout(timeout):
                reply = await self._said(messages, tab, reservation.cost.msat)
            spent += Cost(reply.msat, 0, reply.prompt_tokens + reply.completion_tokens)
        finally:
            self._late.hand_over(
                tab, course.budget, answers=spent.msat, bound=reservation.cost.msat, loop=course.task.name,
                turn=course.turn,
            )  # fmt: skip
            self._gate.settle(course.budget, reservation, spent)
        self._history.counted(reply.prompt_tokens, messages)
        course.write(
            "turn", last=last, reply=course.trajectory.text(reply.text), model=reply.model, msat=reply.msat,
            prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens, finish=reply.finish,
            ms=round(1_000 * (course.clock.monotonic() - started)), compactions=self._history.compactions,
        )  # fmt: skip
        return reply

    def show(self, reply: Reply, text: str) -> None:
        """What the root sees after its turn: adds both to the chat."""
        course = self._course
        if (was := course.earlier.shown(course.task.name, course.turn)) is not None:
            # Its next turn, if it is recorded, was said to this.
            text = course.earlier.text(was, "text")
            course.copy(was)
        else:
            course.write("shown", text=course.trajectory.text(text))
        self._history.add(reply.text, text, reply_chars=_MOST_REPLY_CHARS)

    def so_far(self, tokens: int) -> list[Message]:
        """The chat for the last turn: cut to so many tokens for good, which bound it from here on."""
        return self._history.messages(tokens)

    def most(self, messages: list[Message]) -> Cost:
        """What a reply to these may cost at most."""
        # A program is no model, and asks nobody.
        turns = 1 if self.root.max_tokens else 0
        return Cost(self.root.most_msat, 0, estimate_tokens(messages) + self.root.max_tokens, turns)

    def _charged(self, tab: Tab, bound: int, charge: Charge) -> None:
        """Books and writes down what no reply accounts for, as it comes: there may never be a reply."""
        tab.hear(charge)
        if isinstance(charge, Reserved):
            self._late.reserved(tab, bound, self._course.task.name, self._course.turn)
        if isinstance(charge, Beside):
            self._course.budget.book(Cost(charge.msat))
            self._course.write("charged", msat=charge.msat, **tab.named)

    async def _said(self, messages: list[Message], tab: Tab, bound: int) -> Reply:
        """The reply, or `RootError` whatever it was that failed: a run ends with its reason, and with what it has.
        A program says itself how it ends."""
        try:
            return await self.root.reply(
                messages, loop=self._course.task.name, charged=partial(self._charged, tab, bound)
            )
        except (RootError, LoopEnd, TimeoutError):
            raise
        except PylonError as error:
            raise RootError(str(error), hint=error.hint, lasting=False, means=meaning(error)) from error
        except Exception as error:
            logger.exception("the root model failed because of an internal error")
            raise RootError(
                f"the root model failed because of an internal error ({type(error).__name__})", lasting=False
            ) from error
