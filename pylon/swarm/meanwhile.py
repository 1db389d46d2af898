"""What runs beside somebody who hears of it while it does, and no longer than that."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self

from pylon.tasks import end


@asynccontextmanager
async def meanwhile[T](work: Coroutine[Any, Any, T], over: Callable[[], None]) -> AsyncIterator[asyncio.Task[T]]:
    """A task for `work`; `over` is called when it ends. Whoever leaves before that cancels it, and goes on when it
    has ended: what it held is free then, and no error of it is left unread."""
    task = asyncio.create_task(work, name="meanwhile")
    task.add_done_callback(lambda _: over())
    try:
        yield task
    finally:
        if task.done():
            # Whoever leaves has read what it came to, or has an error of its own.
            task.cancelled() or task.exception()
        else:
            await end(task)


class LatestValue[T]:
    """What was said last, for one reader: whoever reads slowly misses what came before it, and nothing piles up.

    Reading ends when it is `over` and the last was read.
    """

    def __init__(self) -> None:
        self._said: list[T] = []
        self._came = asyncio.Event()
        self._over = False

    def say(self, what: T) -> None:
        """This is the latest now."""
        self._said[:] = [what]
        self._came.set()

    def over(self) -> None:
        """Nothing more comes."""
        self._over = True
        self._came.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._said:
            if self._over:
                raise StopAsyncIteration
            await self._came.wait()
            self._came.clear()
        return self._said.pop()
