"""Asks about names in rounds until each is settled: soon after it was added, then after pauses that grow."""

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from dataclasses import dataclass

from pylon.tasks import Tasks

# Names that are added within so many seconds share a round. It is also the pause between two rounds.
SOON_S = 0.05
FIRST_S = 0.5
LONGEST_S = 60.0
# The most names in a round: reading so many takes some milliseconds, during which nobody else is served.
AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """When a name is next asked about, in seconds of a clock, and the pause after that."""

    at: float
    name: str
    pause_s: float


class Turns:
    """The names that are not settled, by when each is due. Pure: time is an argument."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def next_at(self) -> float:
        """When the first is due; infinity if there is none."""
        return self._turns[0].at if self._turns else math.inf

    def add(self, name: str) -> None:
        """Adds a new name, which comes before all that were asked about already."""
        heapq.heappush(self._turns, Turn(-math.inf, name, FIRST_S))

    def take(self, now: float, most: int) -> list[Turn]:
        """Removes and returns those that are due, `most` at most."""
        taken: list[Turn] = []
        while self._turns and self._turns[0].at <= now and len(taken) < most:
            taken.append(heapq.heappop(self._turns))
        return taken

    def put_back(self, turn: Turn, now: float) -> None:
        """Puts a name back that was asked about and is not settled.

        Times are rounded up, so that names which are due at almost the same time share a round.
        """
        at = math.ceil((now + turn.pause_s) / FIRST_S) * FIRST_S
        heapq.heappush(self._turns, Turn(at, turn.name, min(2 * turn.pause_s, LONGEST_S)))


class Rounds:
    """Calls `work` with the names that are due; it returns those to ask about again, and must not raise.

    `name` is that of the task.
    """

    def __init__(self, work: Callable[[list[str]], Awaitable[Container[str]]], name: str) -> None:
        self._work = work
        self._name = name
        self._turns = Turns()
        self._came = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    def add(self, name: str) -> None:
        """Adds a new name, which is asked about soon. The others keep their pauses."""
        if self._closed:
            return
        self._turns.add(name)
        self._came.set()
        if self._task is None or self._task.done():
            self._task = self._tasks.start(self._go_on(), self._name)

    async def close(self) -> None:
        """Ends the rounds. Names that are added later are ignored."""
        self._closed = True
        await self._tasks.close()

    async def _go_on(self) -> None:
        time = asyncio.get_running_loop().time
        while self._turns:
            self._came.clear()
            if (wait_s := self._turns.next_at - time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._came.wait()
            await asyncio.sleep(SOON_S)
            taken = self._turns.take(time(), AT_ONCE)
            again = await self._work([turn.name for turn in taken])
            now = time()
            for turn in taken:
                if turn.name in again:
                    self._turns.put_back(turn, now)
