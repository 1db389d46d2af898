"""The chat of a loop with its root model: asks for turns, books their cost, and records what is said and shown."""

import asyncio
from functools import partial

from pylon import log
from pylon.errors import PylonError
from pylon.rlm.budget import Bound, Cost, Refusal, Reservation
from pylon.rlm.charges import Charge, ExtraCharge, Reserved, Tab
from pylon.rlm.gate import Gate
from pylon.rlm.history import History
from pylon.rlm.late import LateCharges
from pylon.rlm.loop_state import LoopEnd, LoopState, Reason, out_of_budget
from pylon.rlm.root import Message, Reply, Root, RootError, estimate_tokens, meaning
from pylon.rlm.trajectory import Event

logger = log.get("rlm")

# The share of the root's window for the chat and its reply; the rest is room for errors of the token estimate.
_WINDOW_SHARE = 0.8
# The most of a single reply that is kept in the chat.
_MOST_REPLY_CHARS = 40_000


class RootChat:
    """The chat of one loop with `root`."""

    def __init__(self, state: LoopState, root: Root, gate: Gate, late: LateCharges) -> None:
        self.root = root
        self._state = state
        self._gate = gate
        self._late = late
        room = int(root.context_tokens * _WINDOW_SHARE) - root.max_tokens
        task = state.task
        self._history = History(task.system, task.opening, limit_tokens=max(room, root.context_tokens // 4))

    async def ask(self) -> Reply:
        """Asks for the root's next turn, or takes it from the record. Raises `LoopEnd`."""
        messages = self._history.messages()
        state = self._state
        if (was := state.recorded.turn(state.task.name, state.turn)) is not None:
            return self._recorded_reply(was, messages)
        if state.trajectory.full:
            raise out_of_budget(Refusal(Bound.DISK, 0, 0))
        reservation = await self._gate.wait(self._state.budget, self.most(messages))
        if isinstance(reservation, Refusal):
            raise out_of_budget(reservation)
        wall = self._state.left().wall_s
        timeout = self._state.settings.root_timeout_s
        try:
            return await self.reply(messages, reservation, timeout if wall is None else min(timeout, wall))
        except TimeoutError:
            if wall is not None and wall < timeout:
                raise out_of_budget(Refusal(Bound.WALL, 0, 0)) from None
            raise LoopEnd(Reason.ROOT_SILENT, f"the root model gave no reply within {timeout:g} s") from None
        except RootError as error:
            raise LoopEnd(Reason.ROOT_FAILED, str(error), error) from error

    def _recorded_reply(self, was: Event, messages: list[Message]) -> Reply:
        """A reply from the record of a resumed run, which is paid already."""
        self._history.counted(was["prompt_tokens"], messages)
        self._state.copy(was)
        text = self._state.recorded.text(was, "reply")
        return Reply(text, was["prompt_tokens"], was["completion_tokens"], was["model"], finish=was.get("finish"))

    async def reply(
        self, messages: list[Message], reservation: Reservation, timeout: float, *, last: bool = False
    ) -> Reply:
        """Asks the root, books the cost and writes the `turn` event. `timeout` is in seconds. Raises `RootError`,
        `TimeoutError`."""
        state = self._state
        started = state.clock.monotonic()
        spent, tab = Cost(turns=reservation.cost.turns), Tab()
        try:
            async with asyncio.timeout(timeout):
                reply = await self._said(messages, tab, reservation.cost.msat)
            spent += Cost(reply.msat, 0, reply.prompt_tokens + reply.completion_tokens)
        finally:
            self._late.hand_over(
                tab, state.budget, answers=spent.msat, bound=reservation.cost.msat, loop=state.task.name,
                turn=state.turn,
            )  # fmt: skip
            self._gate.settle(state.budget, reservation, spent)
        self._history.counted(reply.prompt_tokens, messages)
        state.write(
            "turn", last=last, reply=state.trajectory.text(reply.text), model=reply.model, msat=reply.msat,
            prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens, finish=reply.finish,
            ms=round(1_000 * (state.clock.monotonic() - started)), compactions=self._history.compactions,
        )  # fmt: skip
        return reply

    def show(self, reply: Reply, text: str) -> None:
        """Adds a reply, and the text that the root is shown for it, to the chat."""
        state = self._state
        if (was := state.recorded.shown(state.task.name, state.turn)) is not None:
            # The recorded next turn, if there is one, was a reply to this text.
            text = state.recorded.text(was, "text")
            state.copy(was)
        else:
            state.write("shown", text=state.trajectory.text(text))
        self._history.add(reply.text, text, reply_chars=_MOST_REPLY_CHARS)

    def so_far(self, tokens: int) -> list[Message]:
        """The chat for the last turn, permanently cut to this many tokens."""
        return self._history.messages(tokens)

    def most(self, messages: list[Message]) -> Cost:
        """The most that a reply to these messages may cost."""
        # A program in the root's place has no `max_tokens` and takes no turn of a model.
        turns = 1 if self.root.max_tokens else 0
        return Cost(self.root.most_msat, 0, estimate_tokens(messages) + self.root.max_tokens, turns)

    def _charged(self, tab: Tab, bound: int, charge: Charge) -> None:
        """Books and records charges besides the price of the reply, as they come: there may never be a reply."""
        tab.hear(charge)
        if isinstance(charge, Reserved):
            self._late.reserved(tab, bound, self._state.task.name, self._state.turn)
        if isinstance(charge, ExtraCharge):
            self._state.budget.book(Cost(charge.msat))
            self._state.write("charged", msat=charge.msat, **tab.named)

    async def _said(self, messages: list[Message], tab: Tab, bound: int) -> Reply:
        """The reply. Raises `RootError` whatever failed, so that the loop ends with a reason and keeps what it has; a
        program in the root's place raises `LoopEnd` itself."""
        try:
            return await self.root.reply(
                messages, loop=self._state.task.name, charged=partial(self._charged, tab, bound)
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
