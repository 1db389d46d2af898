"""Group commit: many small writes that wait for one disk flush together.

A job takes a handful of steps, each of which has to be on disk before the next is taken. One flush a step would
bound a provider to some hundred jobs a second; what has gathered while the last flush ran shares the next one.
"""

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from pylon import log
from pylon.store.database import Database, Step, Transaction
from pylon.store.rest import rest

MAX_GROUP = 512
# How long a write that nobody waits for may wait for others to go along with.
LATER_S = 0.5

_log = log.get("store")


@dataclass(slots=True)
class _Waiting:
    step: Step[Any] | None
    # None: nobody waits for it.
    done: asyncio.Future[Any] | None
    sql: str = ""
    values: tuple[Any, ...] = ()
    together: bool = False


class GroupCommit:
    """Runs writes in order. One that fails undoes itself alone; its exception goes to whoever submitted it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to commit."""
        self._task = asyncio.create_task(self._run(), name="group commit")

    async def close(self) -> None:
        """Commits what waits, then stops."""
        # Once in any case: a group that is being written is waited for.
        await self._flush()
        while self._waiting:
            await self._flush()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def submit[T](self, step: Step[T], *, together: bool = False) -> asyncio.Future[T]:
        """Runs several statements as one step, in the order of the calls; its value, once it is committed.

        With `together` it and its neighbours of that kind run in one trip to the database's thread, for which see
        `Transaction.together`; when one of them fails, the others run a second time. A caller that is cancelled
        meanwhile does not undo the step: it may be committed.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        return self._enqueue(_Waiting(step, done, together=together), done)

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> asyncio.Future[int]:
        """Runs one statement; the number of rows it changed, once it is committed."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return self._enqueue(_Waiting(None, done, sql, values), done)

    def execute_later(self, sql: str, values: tuple[Any, ...] = (), *, soon: bool = False) -> None:
        """Runs one statement in its turn, for what a crash may undo: with the next commit, at once when `soon`.

        A failure is logged, and nobody else hears of it.
        """
        self._waiting.append(_Waiting(None, None, sql, values))
        if soon:
            self._wake.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(LATER_S, self._wake.set)

    def _enqueue[T](self, waiting: _Waiting, done: asyncio.Future[T]) -> asyncio.Future[T]:
        self._waiting.append(waiting)
        self._wake.set()
        return done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                began = loop.time()
                written = await self._flush()
                await rest(loop.time() - began, written)

    async def _flush(self) -> int:
        """Commits what waits; how many writes that were."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        async with self._turn:
            group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
            try:
                results = await self._commit(group) if group else []
            except Exception as error:
                # Whatever broke the commit broke it for everyone who waits for it.
                results = [error] * len(group)
            except BaseException:
                # Whoever closed this has no more time. Nobody shall wait for ever for what it was about.
                for waiting in group:
                    if waiting.done is not None and not waiting.done.done():
                        waiting.done.set_exception(sqlite3.OperationalError("it is not known whether this is stored"))
                raise
        for waiting, result in zip(group, results, strict=True):
            if waiting.done is None:
                if isinstance(result, Exception):
                    _log.error("a write was lost", error=repr(result))
            elif waiting.done.done():
                continue
            elif isinstance(result, Exception):
                waiting.done.set_exception(result)
            else:
                waiting.done.set_result(result)
        return len(group)

    async def _commit(self, group: list[_Waiting]) -> list[Any]:
        if all(waiting.step is None or waiting.together for waiting in group):
            # Most groups: begun, written and committed in one trip to the database's thread, and none of them fails.
            # A savepoint each would have SQLite copy every page that each of them is the first to touch.
            try:
                return await self._database.write_together(partial(_do_each, group=group, apart=False))
            except Exception:
                if not any(waiting.step for waiting in group):
                    raise
            return await self._database.write_together(partial(_do_each, group=group))
        async with self._database.transaction() as tx:
            return await _do_each(tx, group)


async def _do_each(tx: Transaction, group: list[_Waiting], *, apart: bool = True) -> list[Any]:
    """Runs a group; with `apart` a step that fails undoes itself alone, without it ends the transaction."""
    results: list[Any] = []
    for (is_step, together), members in groupby(group, key=lambda one: (one.step is not None, one.together)):
        run = list(members)
        if together:
            results += await tx.together(partial(_take_each if apart else _take_all, group=run))
        elif is_step:
            results += await _take_each(tx, run)
        else:
            results += await tx.run(partial(_execute_each, group=run))
    return results


def _execute_each(connection: sqlite3.Connection, group: Iterable[_Waiting]) -> list[Exception | int]:
    results: list[Exception | int] = []
    for waiting in group:
        # A single statement that fails leaves nothing behind: it needs no savepoint.
        try:
            changed = connection.execute(waiting.sql, waiting.values).rowcount
        except Exception as error:
            # A full disk ends the whole transaction, and what came after would be committed by itself.
            if not connection.in_transaction:
                raise
            results.append(error)
        else:
            results.append(changed)
    return results


async def _take_all(tx: Transaction, group: Iterable[_Waiting]) -> list[Any]:
    return [await waiting.step(tx) for waiting in group if waiting.step is not None]


async def _take_each(tx: Transaction, group: Iterable[_Waiting]) -> list[Any]:
    results: list[Any] = []
    for waiting in group:
        assert waiting.step is not None  # noqa: S101 - the caller looked
        await tx.execute("SAVEPOINT step")
        try:
            result = await waiting.step(tx)
        except Exception as failure:
            await tx.execute("ROLLBACK TO step")
            result = failure
        await tx.execute("RELEASE step")
        results.append(result)
    return results
