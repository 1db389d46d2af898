"""Group commit: many small writes share one transaction and one flush to the disk.

A job takes a handful of steps, each of which has to be on disk before the next is taken. One flush for each would
limit a provider to some hundred jobs a second; so the writes that gather while one flush runs share the next.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pylon import log
from pylon.store.database import Database, Transaction, TransactionHere
from pylon.store.rest import rest
from pylon.tasks import Tasks

# The most writes in one transaction.
MAX_GROUP = 512
# After this many writes other tasks of the event loop have their turn.
_IN_A_TURN = 64
# How long `execute_later` may wait for other writes to be committed with, in seconds.
LATER_S = 0.5

_log = log.get("store")

type Step[T] = Callable[[Transaction], Coroutine[Any, Any, T]]
type Batch[I, T] = Callable[[Transaction, list[I]], Coroutine[Any, Any, list[T]]]


@dataclass(slots=True)
class _Waiting:
    """A write that waits for the next commit: a step, an item of a batch, or else one SQL statement."""

    step: Step[Any] | None = None
    sql: str = ""
    values: tuple[Any, ...] = ()
    batch: Batch[Any, Any] | None = None
    item: Any = None
    # None where no caller waits for the result.
    done: asyncio.Future[Any] | None = None


class GroupCommit:
    """Runs writes in order. One that fails is undone alone, and its exception goes to its caller."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._tasks = Tasks()
        self._later: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Starts the task that commits."""
        self._tasks.start(self._run(), "group commit")

    async def close(self) -> None:
        """Commits all waiting writes, then stops. Later writes fail with `sqlite3.ProgrammingError`."""
        # At least once: that waits for a group that is being written.
        await self._flush()
        while self._waiting:
            await self._flush()
        # Without awaiting in between: a caller that was just answered may submit another write.
        self._closed = True
        await self._tasks.close()

    def submit[T](self, step: Step[T]) -> asyncio.Future[T]:
        """Runs several statements as one step, in the order of the calls; gives its value once it is committed.

        The step may await its transaction and nothing else. When one of the steps that are committed together fails,
        the others run a second time, and their last value counts. Cancelling the caller does not undo the step: it
        may be committed.
        """
        return self._enqueue(_Waiting(step))

    def submit_to[I, T](self, batch: Batch[I, T], item: I) -> asyncio.Future[T]:
        """Runs `batch` once for all items submitted to it that are committed together; gives the value of this item.

        `batch` returns as many values as it got items, in their order. It runs where the first of the items stands,
        before other writes that were submitted in between. When something fails it is run again for each item alone.
        """
        return self._enqueue(_Waiting(batch=batch, item=item))

    def execute(self, sql: str, values: tuple[Any, ...] = (), *, soon: bool = True) -> asyncio.Future[int]:
        """Runs one statement; gives the number of rows it changed, once it is committed.

        That is at once or, unless `soon`, with the next commit, after `LATER_S` seconds at the latest.
        """
        return self._enqueue(_Waiting(sql=sql, values=values), soon=soon)

    def execute_later(self, sql: str, values: tuple[Any, ...] = (), *, soon: bool = False) -> None:
        """Runs one statement, in order, that a crash may undo: with the next commit, or at once when `soon`.

        A failure is only logged.
        """
        if self._closed:
            _log.error("a write was lost", error="these writes were closed")
            return
        self._add(_Waiting(sql=sql, values=values), soon=soon)

    def _enqueue(self, waiting: _Waiting, *, soon: bool = True) -> asyncio.Future[Any]:
        done = waiting.done = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(sqlite3.ProgrammingError("these writes were closed"))
            return done
        self._add(waiting, soon=soon)
        return done

    def _add(self, waiting: _Waiting, *, soon: bool) -> None:
        self._waiting.append(waiting)
        if soon:
            self._wake.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(LATER_S, self._wake.set)

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
        """Commits the waiting writes, `MAX_GROUP` at most, and returns how many those were."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        async with self._turn:
            group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
            try:
                results = await self._commit(group) if group else []
            except Exception as error:
                # The commit itself failed: for every caller that waits for it.
                results = [error] * len(group)
            except BaseException:
                # Closing was itself cancelled. No caller may wait for ever for its result.
                for waiting in group:
                    if waiting.done is not None and not waiting.done.done():
                        waiting.done.set_exception(
                            sqlite3.OperationalError("it is not known whether this was stored")
                        )
                raise
        for waiting, result in zip(group, results, strict=True):
            if waiting.done is None:
                if isinstance(result, Exception):
                    _log.failed("a write was lost", result)
            elif waiting.done.done():
                continue
            elif isinstance(result, Exception):
                waiting.done.set_exception(result)
            else:
                waiting.done.set_result(result)
        return len(group)

    async def _commit(self, group: list[_Waiting]) -> list[Any]:
        steps = any(waiting.step is not None or waiting.batch is not None for waiting in group)
        # Without savepoints first: with them SQLite copies every page that a step is the first to touch, and steps
        # hardly ever fail.
        try:
            return await self._write(group, apart=False)
        except Exception:
            if not steps:
                raise
        return await self._write(group, apart=True)

    async def _write(self, group: list[_Waiting], *, apart: bool) -> list[Any]:
        """Writes a group in one transaction. A step that fails is undone alone with `apart`, else it undoes all."""
        run = _run_in_savepoint if apart else _run_step
        results: list[Any] = [None] * len(group)
        in_this_turn = 0
        async with self._database.transaction_here() as tx:
            for numbers in _in_turn(group, apart=apart):
                taken = _run_turn(tx, [group[number] for number in numbers], run)
                for number, result in zip(numbers, taken, strict=True):
                    results[number] = result
                in_this_turn += len(numbers)
                if in_this_turn >= _IN_A_TURN:
                    in_this_turn = 0
                    await asyncio.sleep(0)
        return results


def _in_turn(group: list[_Waiting], *, apart: bool) -> list[list[int]]:
    """The turns in which a group is written, as places in it: one write each, or several of the same batch."""
    turns: list[list[int]] = []
    batches: dict[Batch[Any, Any], list[int]] = {}
    for number, waiting in enumerate(group):
        same = None if apart or waiting.batch is None else batches.get(waiting.batch)
        if same is not None and len(same) < _IN_A_TURN:
            same.append(number)
            continue
        turns.append([number])
        if waiting.batch is not None:
            batches[waiting.batch] = turns[-1]
    return turns


def _run_turn(
    tx: TransactionHere, members: list[_Waiting], run: Callable[[TransactionHere, Step[Any]], Any]
) -> list[Any]:
    first = members[0]
    if first.batch is None:
        return [_execute(tx, first) if first.step is None else run(tx, first.step)]
    batch, items = first.batch, [waiting.item for waiting in members]
    values = run(tx, lambda tx: batch(tx, items))
    return [values] * len(items) if isinstance(values, Exception) else values


def _execute(tx: TransactionHere, waiting: _Waiting) -> Exception | int:
    # A single statement that fails leaves nothing behind: it needs no savepoint.
    try:
        return tx.connection.execute(waiting.sql, waiting.values).rowcount
    except Exception as error:
        # A full disk ends the whole transaction, and later statements would each be committed alone.
        if not tx.connection.in_transaction:
            raise
        return error


def _run_step(tx: TransactionHere, step: Step[Any]) -> Any:
    work = step(tx)
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("a step awaits its transaction and nothing else")


def _run_in_savepoint(tx: TransactionHere, step: Step[Any]) -> Any:
    tx.connection.execute("SAVEPOINT step")
    try:
        result = _run_step(tx, step)
    except Exception as failure:
        # A full disk ends the whole transaction, and with it the savepoint.
        if not tx.connection.in_transaction:
            raise
        tx.connection.execute("ROLLBACK TO step")
        result = failure
    tx.connection.execute("RELEASE step")
    return result
