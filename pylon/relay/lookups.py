"""Lookups of stored events, bounded in time so that a slow one holds up no others.

A filter may need a scan of the whole table. Each lookup first gets a short time on the database connection that all
readers share. One that takes longer is broken off and starts again on a second connection, where slow ("wide")
lookups wait only for each other. A client whose lookup was broken off goes straight there for a while: else a hundred
clients that ask for nothing else would take up the shared connection with these first attempts.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

from pylon.clock import Clock
from pylon.relay.queries import Client, Query
from pylon.store.database import Database
from pylon.store.steps import set_up
from pylon.store.thread import SqliteThread
from pylon.tasks import end

# A lookup that an index answers takes some milliseconds.
_QUICK_S = 0.05
# Each takes two seconds at the most (`RelayLimits.lookup_s`): with more in line, the clients of the last ones would
# have given up before their turn.
_MOST_WIDE = 16
# For so long the lookups of a client that had a wide one count as wide.
_WIDE_FOR_S = 10.0
# The time is checked after so many of SQLite's steps, some milliseconds. A lookup that an index answers ends before.
_LOOK_STEPS = 100_000

type Found = list[list[sqlite3.Row]]


class Lookups:
    """See the module. A lookup of more than `most_s` seconds raises an error for which `took_too_long` is true."""

    def __init__(self, database: Database, wide: SqliteThread, clock: Clock, most_s: float) -> None:
        self._database = database
        self._wide = wide
        self._clock = clock
        self._most_s = most_s
        self._waiting: set[asyncio.Task[Found]] = set()
        # Until when the lookups of a client count as wide, in monotonic seconds.
        self._wide_until: WeakKeyDictionary[Client, float] = WeakKeyDictionary()

    @classmethod
    async def open(cls, database: Database, clock: Clock, most_s: float) -> "Lookups":
        """Opens the second connection."""
        wide = SqliteThread.open(database.path)
        await wide.run(partial(set_up, durability="NORMAL"))
        return cls(database, wide, clock, most_s)

    async def close(self) -> None:
        """Closes the second connection."""
        await end(*self._waiting)
        await self._wide.close()

    async def look_up(self, queries: Sequence[Query], client: Client) -> Found:
        """The rows of each query, in order, for this client. Raises `sqlite3.Error`, see `took_too_long`."""
        quick_s = min(_QUICK_S, self._most_s)
        if self._wide_until.get(client, 0.0) <= self._clock.monotonic():
            try:
                return await self._database.read(partial(self._bounded, queries=queries, most_s=quick_s))
            except sqlite3.Error as error:
                if not took_too_long(error) or quick_s == self._most_s:
                    raise
            self._wide_until[client] = self._clock.monotonic() + _WIDE_FOR_S
        if len(self._waiting) >= _MOST_WIDE:
            raise _broken_off()
        # Shielded: when the client hangs up, the lookup still counts as waiting until the thread is done with it.
        gone = threading.Event()
        walk = partial(self._bounded, queries=queries, most_s=self._most_s, gone=gone)
        looking = asyncio.create_task(self._wide.run(walk), name="a wide lookup")
        self._waiting.add(looking)
        looking.add_done_callback(self._over)
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            gone.set()
            raise

    def _over(self, looking: asyncio.Task[Found]) -> None:
        self._waiting.discard(looking)
        if not looking.cancelled():
            # Read here, since the waiting task may be gone; asyncio would log an exception that nobody read.
            looking.exception()

    def _bounded(
        self,
        connection: sqlite3.Connection,
        queries: Sequence[Query],
        most_s: float,
        gone: threading.Event | None = None,
    ) -> Found:
        ends = self._clock.monotonic() + most_s

        def is_over() -> bool:
            return self._clock.monotonic() > ends or (gone is not None and gone.is_set())

        connection.set_progress_handler(is_over, _LOOK_STEPS)
        try:
            return [connection.execute(query.sql, query.values).fetchall() for query in queries]
        finally:
            connection.set_progress_handler(None, 0)


def _broken_off() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("too many lookups that take long are waiting")
    error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
    return error


def took_too_long(error: sqlite3.Error) -> bool:
    """Whether this error says that a lookup was broken off because it took too long."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
