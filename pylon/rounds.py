"""What is asked after again and again until it is known: at once when it is new, then each after its own pauses."""

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Container
from contextlib import suppress
from dataclasses import dataclass

from pylon.tasks import Tasks

# Whatever else comes up in the same moment is asked after together. It is also the pause between two rounds.
SOON_S = 0.05
FIRST_S = 0.5
LONGEST_S = 60.0
# So many are read in some milliseconds, by whoever has all others to serve as well.
AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """When a name is asked after, in seconds of a clock, and the pause that comes after that."""

    at: float
    name: str
    pause_s: float


class Turns:
    """Whose turn it is. Pure: time is an argument."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def next_at(self) -> float:
        """When the first of them is due; never when there is none."""
        return self._turns[0].at if self._turns else math.inf

    def add(self, name: str) -> None:
        """One that was not asked after yet: it comes before all that were."""
        heapq.heappush(self._turns, Turn(-math.inf, name, FIRST_S))

    def take(self, now: float, most: int) -> list[Turn]:
        """Those that are due, `most` at most: they are gone from here."""
        taken: list[Turn] = []
        while self._turns and self._turns[0].at <= now and len(taken) < most:
            taken.append(heapq.heappop(self._turns))
        return taken

    def put_back(self, turn: Turn, now: float) -> None:
        """It was asked after, and is not known yet. Those that would be due at almost the same time are due at the
        same, or many would make a round of one every moment."""
        at = math.ceil((now + turn.pause_s) / FIRST_S) * FIRST_S
        heapq.heappush(self._turns, Turn(at, turn.name, min(2 * turn.pause_s, LONGEST_S)))


class Rounds:
    """`work` is one round: it is given names, and returns those of them that are to be asked after again. It raises
    nothing. `name` is its task's.
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
        """A new name, asked after soon; others keep their pauses."""
        if self._closed:
            return
        self._turns.add(name)
        self._came.set()
        if self._task is None or self._task.done():
            self._task = self._tasks.start(self._go_on(), self._name)

    async def close(self) -> None:
        """No more rounds, whatever is added."""
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
