"""What runs beside somebody who hears of it while it does, and no longer than that."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def meanwhile[T](work: Coroutine[Any, Any, T], over: Callable[[], None]) -> AsyncIterator[asyncio.Task[T]]:
    """A task for `work`; `over` is called when it ends. Whoever leaves before that cancels it, and goes on when it
    has ended: what it held is free then, and no error of it is left unread."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: over())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
