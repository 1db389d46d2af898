"""Background work that ends with an exit stack."""

from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from pylon.tasks import Tasks


def beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    """Runs `work` in the background until `stack` closes."""
    tasks = Tasks()
    tasks.start(work, name)
    stack.push_async_callback(tasks.close)
