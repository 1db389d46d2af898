"""Tasks with an owner, which holds them until they are done, logs their errors, and ends them when it is closed.

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
    """The tasks of one owner. An error ends its own task alone, and is logged at once.

    `failed` is the message of that log line; errors of the types in `expected` are not logged. `ended` is called
    after each task of `begin`, whose errors are all logged.
    """

    def __init__(
        self, failed: str = _FAILED, ended: Callable[[], None] | None = None, *, expected: Errors = ()
    ) -> None:
        # The event loop holds tasks by weak references only: without this, one may be collected while it waits.
        self._running: set[asyncio.Task[Any]] = set()
        self._failed = failed
        self._ended = ended
        self._expected = expected

    def __len__(self) -> int:
        return len(self._running)

    def start[T](self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Starts a task in the next turn of the event loop. Whoever awaits it gets its error, too."""
        return self.hold(asyncio.create_task(work, name=name))

    def hold[T](self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Takes over a task that was made elsewhere."""
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Starts a task at once: it runs up to its first wait, which may be to its end, before this returns."""
        task = asyncio.Task(self._do(work, name), loop=asyncio.get_running_loop(), name=name, eager_start=True)
        if not task.done():
            self._running.add(task)

    async def wait(self) -> None:
        """Waits for the tasks that run now. When it is cancelled, it cancels them and still waits for them."""
        await _all_done(list(self._running))

    async def close(self) -> None:
        """Cancels all tasks and waits for their ends, also of those that they start meanwhile."""
        while self._running:
            self.cancel()
            await self.wait()
            # A task that was done already is removed by a callback that has yet to run.
            await asyncio.sleep(0)

    def cancel(self) -> None:
        """Cancels all tasks, without waiting for their ends."""
        for task in self._running:
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        _log_error(task, self._failed, self._expected)

    async def _do(self, work: Coroutine[Any, Any, None], name: str) -> None:
        # The task removes itself: a callback would take another turn of the event loop each time.
        try:
            await work
        except Exception as error:
            logger.failed(self._failed, error, task=name)
        finally:
            self._running.discard(asyncio.current_task())
            if self._ended is not None:
                self._ended()


def this_task() -> asyncio.Task[Any]:
    """The task of the coroutine that calls this. Raises `RuntimeError` outside of one."""
    if (task := asyncio.current_task()) is None:
        raise RuntimeError("no task runs here")
    return task


async def end(*tasks: asyncio.Future[Any] | None, expected: Errors = ()) -> None:
    """Cancels tasks and waits for their ends; None is skipped.

    An error of one of them, from before or now, is logged unless its type is in `expected`, since nobody else would
    hear of it. So a task whose result the caller reads must be left out.

    When this is cancelled, it cancels the tasks once more and still waits for them: none goes on without an owner.
    """
    ending = [task for task in tasks if task is not None]
    for task in ending:
        task.cancel()
    try:
        await _all_done(ending)
    finally:
        for task in ending:
            _log_error(task, _FAILED, expected)


async def _all_done(tasks: Collection[asyncio.Future[Any]]) -> None:
    # Not `asyncio.wait`, which when cancelled would leave the tasks running.
    await asyncio.gather(*tasks, return_exceptions=True)


def _log_error(task: asyncio.Future[Any], failed: str, expected: Errors) -> None:
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, expected):
        logger.failed(failed, error, task=task.get_name() if isinstance(task, asyncio.Task) else "")
