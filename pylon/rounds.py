"""Work that is done again and again until there is nothing left of it: soon at first, then with pauses that grow."""

import asyncio
from collections.abc import Awaitable, Callable

# Whatever else comes up in the same moment is done together.
SOON_S = 0.05
FIRST_S = 0.5
LONGEST_S = 60.0


class Rounds:
    """`work` is one round, and says whether there is more to do. It raises nothing. `name` is its task's."""

    def __init__(self, work: Callable[[], Awaitable[bool]], name: str) -> None:
        self._work = work
        self._name = name
        self._pause_s = FIRST_S
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Something came up: the next round is soon, and pauses are short again."""
        self._pause_s = FIRST_S
        self._came.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._go_on(), name=self._name)

    async def close(self) -> None:
        """No more rounds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause_s):
                    await self._came.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(SOON_S)
            self._came.clear()
            self._pause_s = min(2 * self._pause_s, LONGEST_S)
            if not await self._work() and not self._came.is_set():
                return
