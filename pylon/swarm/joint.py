"""Steps that come in one turn of the event loop, taken as one: a savepoint each would cost as much as they do."""

import asyncio
from typing import Any

from pylon.store.database import Step, Transaction
from pylon.store.group import GroupCommit

type _Waiting = tuple[Step[Any], asyncio.Future[Any]]


class JointSteps:
    """Like `GroupCommit.submit` with `together`. Steps run in order; one that fails undoes itself alone."""

    def __init__(self, group: GroupCommit) -> None:
        self._group = group
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit[T](self, step: Step[T]) -> T:
        """The step's value, once it is committed. A caller that is cancelled meanwhile does not undo it."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._begin)
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append((step, done))
        return await done

    def _begin(self) -> None:
        group, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._take(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, group: list[_Waiting]) -> None:
        async def each(tx: Transaction) -> list[Any]:
            return [await step(tx) for step, _ in group]

        try:
            results = await self._group.submit(each, together=True)
        except Exception:
            # Undone as a whole: whoever is at fault now fails alone.
            alone = (self._group.submit(step, together=True) for step, _ in group)
            results = await asyncio.gather(*alone, return_exceptions=True)
        for (_, done), result in zip(group, results, strict=True):
            if done.done():
                continue
            if isinstance(result, BaseException):
                done.set_exception(result)
            else:
                done.set_result(result)
