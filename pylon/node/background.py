"""A background task that ends with an exit stack."""

from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from pylon.tasks import Tasks


def run_in_background(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    """Runs `work` in the background until `stack` closes."""
    tasks = Tasks()
    tasks.start(work, name)
    stack.push_async_callback(tasks.close)
