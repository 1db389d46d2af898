"""Sends again, in rounds, the events that a relay refused for coming too fast (`rate-limited:`, NIP-01).

A round holds as many events as were accepted in the last one, and twice as many while none is refused. After a
refusal there is a pause, a longer one each time that no event at all was accepted. So the rate settles near what the
relay allows, which its information document does not say.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice

from pylon.tasks import Tasks

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
MAX_ROUND = 64
# How long a round waits for the relay's answers. After a lost connection none come, and the connection sends again
# what was unanswered.
ANSWER_S = 5.0


class Pacer:
    """Holds ids of events back until their turn. `send` publishes one; False when nobody waits for it any more."""

    def __init__(self, send: Callable[[str], Awaitable[bool]]) -> None:
        self._send = send
        self._held: OrderedDict[str, None] = OrderedDict()
        self._round: set[str] = set()
        self._refusals = 0
        self._settled = asyncio.Event()
        self._tasks = Tasks()
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._held

    @property
    def busy(self) -> bool:
        """Whether events wait here. Further ones must then be held too, behind them."""
        return self._task is not None and not self._task.done()

    def hold(self, event_id: str) -> None:
        """Send the event when its turn comes."""
        self._held[event_id] = None
        if not self.busy:
            self._task = self._tasks.start(self._run(), "paced publications")

    def answered(self, event_id: str, *, refused: bool) -> None:
        """The relay answered; `refused`: it said `rate-limited`, and the event is held to be sent again first."""
        if event_id in self._round:
            self._refusals += refused
            self._round.discard(event_id)
            self._settled.set()
        if refused:
            self.hold(event_id)
            self._held.move_to_end(event_id, last=False)

    async def close(self) -> None:
        """Stop sending."""
        await self._tasks.close()

    async def _run(self) -> None:
        size, pause = 1, 0
        await asyncio.sleep(PAUSES_S[0])
        while self._held:
            ids = list(islice(self._held, size))
            self._refusals = 0
            await self._send_round(ids)
            if not self._refusals:
                size, pause = min(2 * size, MAX_ROUND), 0
                continue
            taken = len(ids) - self._refusals
            pause = 0 if taken else min(pause + 1, len(PAUSES_S) - 1)
            size = max(1, taken)
            await asyncio.sleep(PAUSES_S[pause])

    async def _send_round(self, ids: list[str]) -> None:
        for event_id in ids:
            del self._held[event_id]
            self._round.add(event_id)
            if not await self._send(event_id):
                self._round.discard(event_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while self._round:
                    self._settled.clear()
                    await self._settled.wait()
        self._round.clear()
