"""Tasks have an owner: it holds them until they are over, what they fail with is logged, and closing it ends them.

`asyncio.TaskGroup` is for work that stands or falls together: the first error cancels all the rest, and whoever
opened the group. Here the tasks of an owner have nothing to do with each other, and it lives from a `start` to a
`close` and not in a block.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from pylon import log

logger = log.get("tasks")

_FAILED = "a task failed"

type Errors = tuple[type[Exception], ...]


class Tasks:
    """What runs beside its owner. An error ends its own task alone, and is logged at once.

    `failed` is what the log says of it, unless it is `expected`; `ended` is called after each that `begin` began.
    """

    def __init__(
        self, failed: str = _FAILED, ended: Callable[[], None] | None = None, *, expected: Errors = ()
    ) -> None:
        # The event loop holds tasks by weak references only: without this, one may be collected while it waits.
        self._running: set[asyncio.Task[Any] | None] = set()
        self._failed = failed
        self._ended = ended
        self._expected = expected

    def __len__(self) -> int:
        return len(self._running)

    def start[T](self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Runs it from the next turn of the event loop on. Whoever waits for the task hears of its error as well."""
        return self.hold(asyncio.create_task(work, name=name))

    def hold[T](self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """The same for one that was made elsewhere."""
        self._running.add(task)
        task.add_done_callback(self._over)
        return task

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Runs it up to where it first waits, which may be all there is to do, and the rest in its time."""
        task = asyncio.Task(self._do(work, name), loop=asyncio.get_running_loop(), name=name, eager_start=True)
        if not task.done():
            self._running.add(task)

    async def wait(self) -> None:
        """Returns when those are over that run now. Whoever is cancelled in it cancels them, and waits still."""
        await _all_over(list(filter(None, self._running)))

    async def close(self) -> None:
        """Cancels them, and returns when all are over, those too that they began meanwhile."""
        while self._running:
            self.cancel()
            await self.wait()
            # One that was done already has yet to take its leave, and was not waited for.
            await asyncio.sleep(0)

    def cancel(self) -> None:
        """Cancels them. They are over some time later."""
        for task in filter(None, self._running):
            task.cancel()

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        _tell_of(task, self._failed, self._expected)

    async def _do(self, work: Coroutine[Any, Any, None], name: str) -> None:
        # It takes its leave itself: a callback for that would take a turn of the event loop each time.
        try:
            await work
        except Exception as error:
            logger.failed(self._failed, error, task=name)
        finally:
            self._running.discard(asyncio.current_task())
            if self._ended is not None:
                self._ended()


async def end(*tasks: asyncio.Future[Any] | None, expected: Errors = ()) -> None:
    """Cancels these, and returns when all are over. What one of them failed with, before or now, is logged, unless it
    is `expected`: nobody else hears of it. A task whose result the caller reads is therefore left out (None).

    Whoever is cancelled in it cancels them once more, still waits for them, and is cancelled then: none of them goes
    on without an owner.
    """
    those = [task for task in tasks if task is not None]
    for task in those:
        task.cancel()
    try:
        await _all_over(those)
    finally:
        for task in those:
            _tell_of(task, _FAILED, expected)


async def _all_over(tasks: Collection[asyncio.Future[Any]]) -> None:
    # Not `asyncio.wait`: cancelled, that would leave them to themselves.
    await asyncio.gather(*tasks, return_exceptions=True)


def _tell_of(task: asyncio.Future[Any], failed: str, expected: Errors) -> None:
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, expected):
        logger.failed(failed, error, task=task.get_name() if isinstance(task, asyncio.Task) else "")
