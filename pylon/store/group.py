"""Group commit: many small writes that wait for one disk flush together.

A job takes a handful of steps, each of which has to be on disk before the next is taken. One flush a step would
bound a provider to some hundred jobs a second; what has gathered while the last flush ran shares the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from pylon.store.database import Database, Transaction

MAX_GROUP = 512

type Step[T] = Callable[[Transaction], Awaitable[T]]


@dataclass(slots=True)
class _Waiting:
    step: Step[Any] | None
    done: asyncio.Future[Any]
    sql: str = ""
    values: tuple[Any, ...] = ()
    together: bool = False


class GroupCommit:
    """Runs writes in order. One that fails undoes itself alone; its exception goes to whoever submitted it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to commit."""
        self._task = asyncio.create_task(self._run(), name="group commit")

    async def close(self) -> None:
        """Commits what waits, then stops."""
        while self._waiting:
            await self._flush()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def submit[T](self, step: Step[T], *, together: bool = False) -> T:
        """Runs several statements as one step; its value, once it is committed.

        With `together` the step runs in one turn of the database's thread (see `Transaction.together`). A caller
        that is cancelled meanwhile does not undo the step: it may be committed already.
        """
        waiting = _Waiting(step, asyncio.get_running_loop().create_future(), together=together)
        result: T = await self._enqueue(waiting)
        return result

    async def execute(self, sql: str, values: tuple[Any, ...] = ()) -> None:
        """Runs one statement and returns once it is committed. Neighbours with the same SQL run as one."""
        await self._enqueue(_Waiting(None, asyncio.get_running_loop().create_future(), sql, values))

    async def _enqueue(self, waiting: _Waiting) -> Any:
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._flush()

    async def _flush(self) -> None:
        group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
        results: list[Any] = []
        try:
            async with self._database.transaction() as tx:
                for sql, members in groupby(group, key=lambda waiting: waiting.sql):
                    run = list(members)
                    results += await self._together(tx, sql, run) if sql else await self._apart(tx, run)
        except Exception as error:
            # Whatever broke the commit broke it for everyone who waits for it.
            results = [error] * len(group)
        for waiting, result in zip(group, results, strict=True):
            if waiting.done.done():
                continue
            if isinstance(result, Exception):
                waiting.done.set_exception(result)
            else:
                waiting.done.set_result(result)

    async def _together(self, tx: Transaction, sql: str, run: list[_Waiting]) -> list[Any]:
        if len(run) > 1:
            _, error = await self._step(tx, lambda tx: tx.execute_many(sql, (w.values for w in run)))
            if error is None:
                return [None] * len(run)
        # One of them is at fault: each by itself, to see which.
        return await self._apart(tx, run)

    async def _apart(self, tx: Transaction, run: Iterable[_Waiting]) -> list[Any]:
        results: list[Any] = []
        for waiting in run:
            if waiting.step is not None and waiting.together:
                value, error = await tx.together(partial(self._step, step=waiting.step))
            elif waiting.step is not None:
                value, error = await self._step(tx, waiting.step)
            else:
                value, error = None, await self._statement(tx, waiting)
            results.append(value if error is None else error)
        return results

    @staticmethod
    async def _statement(tx: Transaction, waiting: _Waiting) -> Exception | None:
        # A single statement that fails leaves nothing behind: it needs no savepoint.
        try:
            await tx.execute(waiting.sql, waiting.values)
        except Exception as error:
            return error
        return None

    @staticmethod
    async def _step(tx: Transaction, step: Step[Any]) -> tuple[Any, Exception | None]:
        await tx.execute("SAVEPOINT step")
        try:
            value, error = await step(tx), None
        except Exception as failure:
            await tx.execute("ROLLBACK TO step")
            value, error = None, failure
        await tx.execute("RELEASE step")
        return value, error
