"""Stores rows in SQLite by one thread: the rows that arrive while a batch is committed form the next batch."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Literal

type Row = tuple[str | bytes | int, ...]


class Books:
    """Writes rows in order. The function given with a row is called in the event loop when it is committed."""

    def __init__(self, path: Path, schema: str, synchronous: Literal["NORMAL", "FULL"]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1)
        self._connection = self._thread.submit(partial(_open, path, schema, synchronous)).result()
        self._waiting: list[tuple[str, Row, Callable[[], None]]] = []
        self._is_busy = False

    def write(self, statement: str, row: Row, then: Callable[[], None]) -> None:
        """Queues one statement for one row."""
        self._waiting.append((statement, row, then))
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._begin)

    def close(self) -> None:
        """Ends the thread; rows that are not committed are lost."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    def _begin(self) -> None:
        batch, self._waiting = self._waiting, []
        done = self._loop.run_in_executor(self._thread, self._commit, batch)
        done.add_done_callback(partial(self._committed, batch))

    def _commit(self, batch: list[tuple[str, Row, Callable[[], None]]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        # In order, with equal statements in one call: each call competes with the event loop for the interpreter.
        for statement, alike in groupby(batch, itemgetter(0)):
            self._connection.executemany(statement, map(itemgetter(1), alike))
        self._connection.execute("COMMIT")

    def _committed(self, batch: list[tuple[str, Row, Callable[[], None]]], done: asyncio.Future[None]) -> None:
        # Raises the error of the database: without its rows a run must not go on.
        done.result()
        for _, _, then in batch:
            then()
        if self._waiting:
            self._begin()
        else:
            self._is_busy = False


def _open(path: Path, schema: str, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.executescript(schema)
    return connection
