"""Work that goes on beside everything else."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any


def beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    """Has this done until `stack` closes."""
    task = asyncio.create_task(work, name=name)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
