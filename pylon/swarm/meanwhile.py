"""Work that runs as a task while its caller reads what it reports, and is cancelled when the caller leaves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self

from pylon.tasks import end


@asynccontextmanager
async def meanwhile[T](work: Coroutine[Any, Any, T], over: Callable[[], None]) -> AsyncIterator[asyncio.Task[T]]:
    """A task for `work`; `over` is called when it ends. Leaving the block cancels it, and waits until it has ended,
    so that all it held is free then. No error of it is left unread."""
    task = asyncio.create_task(work, name="meanwhile")
    task.add_done_callback(lambda _: over())
    try:
        yield task
    finally:
        if task.done():
            # The caller has read the result, or has an error of its own. This marks the exception as read.
            task.cancelled() or task.exception()
        else:
            await end(task)


class LatestValue[T]:
    """The latest value of several, for one reader: a slow reader skips older values, and nothing piles up.

    Iteration ends once it is `over` and the last value was read.
    """

    def __init__(self) -> None:
        self._said: list[T] = []
        self._came = asyncio.Event()
        self._over = False

    def say(self, what: T) -> None:
        """Sets the latest value."""
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
