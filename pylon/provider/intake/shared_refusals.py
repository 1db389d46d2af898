"""Tells many strangers at once that they are refused: they share events, and never keep anybody's result waiting."""

import asyncio
from collections import deque

from pylon.forever import forever
from pylon.jobs.codes import ErrorCode
from pylon.nostr.event import Event
from pylon.provider.refusal import Refusal
from pylon.provider.replies import Replies
from pylon.tasks import Tasks

# The most requests in one event: each of their customers is sent all of it, at about 150 bytes a request.
TOGETHER = 64
# How long refusals are gathered, in seconds, so that an event holds many.
GATHER_S = 0.2
# The most events that no relay has acknowledged. A relay that a flood has made slow gets results first.
MOST_OUT = 32
# The most that wait to be told; of more the latest. The others have waited for so long that they have gone elsewhere.
MOST_WAITING = 2_048


class SharedRefusals:
    """The refusals that wait to be told together."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._waiting: deque[Refusal] = deque(maxlen=MOST_WAITING)
        self._came = asyncio.Event()
        self._room = asyncio.Semaphore(MOST_OUT)
        self._tasks = Tasks()

    def start(self) -> None:
        """Starts telling them."""
        self._tasks.start(forever(self._tell, "shared refusals"), "shared refusals")

    async def close(self) -> None:
        """Stops. Who still waits is told nothing."""
        await self._tasks.close()

    def add(self, refusal: Refusal) -> None:
        """Adds one that was remembered."""
        self._waiting.append(refusal)
        self._came.set()

    async def _tell(self) -> None:
        await self._came.wait()
        await asyncio.sleep(GATHER_S)
        while self._waiting:
            await self._room.acquire()
            # Chosen only now: while there was no room, more have come.
            together = self._next()
            self._replies.say(self._event(together), together[0].relay, self._acknowledged)
        self._came.clear()

    def _next(self) -> list[Refusal]:
        first = self._waiting[0]
        alike: list[Refusal] = []
        others: list[Refusal] = []
        while self._waiting and len(alike) < TOGETHER:
            refusal = self._waiting.popleft()
            (alike if _kind(refusal) == _kind(first) else others).append(refusal)
        self._waiting.extendleft(reversed(others))
        return alike

    def _event(self, together: list[Refusal]) -> Event:
        # A refusal for one is sealed as usual; in the open only if its customer has had too many of those.
        own = self._replies.refusal(together[0]) if len(together) == 1 else None
        return own or self._replies.shared_refusal(together)

    def _acknowledged(self, _: bool) -> None:
        self._room.release()


def _kind(refusal: Refusal) -> tuple[str, ErrorCode]:
    return refusal.relay, refusal.code
