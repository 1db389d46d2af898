"""A SQLite connection and the thread that runs its work.

Handing a call to another thread and back costs more than a small statement, so calls that gather while the thread is
at work are run together, in order, and answered together.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pylon.store.faults import named

type Work[T] = Callable[[sqlite3.Connection], T]
type _Call = tuple[Work[Any], asyncio.Future[Any]]
type _Answer = tuple[asyncio.Future[Any], Any, BaseException | None]


class SqliteThread:
    """Runs `Work` on its connection. All callers must belong to the event loop in which it was opened."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        # No isolation level: transactions begin and end where `database` says, not where sqlite3 guesses.
        # Other threads may use the connection only while the thread has nothing to do.
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.row_factory = sqlite3.Row
        self._loop = loop
        self._calls: deque[_Call] = deque()
        self._called = threading.Semaphore(0)
        # Whether the thread has been called and its answers are still to come.
        self._working = False
        self._open = True
        self._path = path
        self._closed: asyncio.Future[None] | None = None
        # A program that fails with a database open must end all the same.
        self._thread = threading.Thread(target=self._serve, name=f"sqlite {path.name}", daemon=True)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the file. Raises `sqlite3.Error`."""
        opened = cls(path, asyncio.get_running_loop())
        opened._thread.start()
        return opened

    @property
    def is_busy(self) -> bool:
        """Whether calls are waiting or running."""
        return self._working

    async def run[T](self, work: Work[T], *, at_once: bool = False) -> T:
        """Runs `work` and returns its result or raises its error. Cancelling the caller does not stop it.

        It is handed over `at_once`, or at the end of this turn of the event loop with what else is called until then.
        """
        if self._closed is not None:
            raise sqlite3.ProgrammingError("this database was closed")
        return await self._submit(work, at_once=at_once)

    async def close(self) -> None:
        """Finishes the calls made so far, closes the connection and ends the thread."""
        if self._closed is None:
            self._closed = self._submit(self._shut)
        await asyncio.shield(self._closed)

    def _submit[T](self, work: Work[T], *, at_once: bool = False) -> asyncio.Future[T]:
        answer: asyncio.Future[T] = self._loop.create_future()
        self._calls.append((work, answer))
        if not self._working:
            self._working = True
            if at_once:
                self._called.release()
            else:
                self._loop.call_soon(self._called.release)
        return answer

    # --- on the thread ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while self._open:
            self._called.acquire()
            # Only the calls that are there now: the first must not wait for ever newer ones.
            answers = [self._do(*self._calls.popleft()) for _ in range(len(self._calls))]
            try:
                self._loop.call_soon_threadsafe(self._deliver, answers)
            except RuntimeError:
                # The event loop is closed, and with it all callers are gone.
                return

    def _shut(self, connection: sqlite3.Connection) -> None:
        self._open = False
        connection.close()

    def _do(self, work: Work[Any], answer: asyncio.Future[Any]) -> _Answer:
        try:
            return answer, work(self.connection), None
        except sqlite3.Error as error:
            named(error, self._path)
            return answer, None, error
        except BaseException as error:
            return answer, None, error

    # --- on the event loop ------------------------------------------------------------------------------------

    def _deliver(self, answers: list[_Answer]) -> None:
        self._working = bool(self._calls)
        if self._working:
            self._called.release()
        for answer, value, error in answers:
            if answer.done():
                continue
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
