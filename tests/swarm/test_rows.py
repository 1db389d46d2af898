"""What must be on disk before a request goes out: all of it, or the request stays here."""

import asyncio
import sqlite3
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon.clock import SystemClock
from pylon.nostr.keys import SecretKey
from pylon.store.database import Database, Schema, TransactionHere, Values
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import JobFailed, JobSpec
from pylon.swarm.rows import Row, written
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.schema import SWARM
from tests.opened import opened_database
from tests.swarm.fakes import FakeProvider, FakeRelays

TABLES = Schema("test", ("CREATE TABLE one (n INTEGER) STRICT; CREATE TABLE two (n INTEGER CHECK (n > 0)) STRICT;",))
REQUEST = "INSERT INTO swarm_request VALUES (?, 'run', 0, 'p', 5940, 1, 2.0, NULL, NULL, 0, 0, 0, '[0,0,0]')"


async def test_when_one_row_cannot_be_written_none_is(tmp_path: Path) -> None:
    async with opened_database(tmp_path / "pylon.db", TABLES) as (database, group):

        def rows(n: int) -> list[Row]:
            return [Row(group, "INSERT INTO one VALUES (?)", (n,)), Row(group, "INSERT INTO two VALUES (?)", (n,))]

        good, bad, last = written(rows(1)), written(rows(0)), written(rows(2))
        await good
        with pytest.raises(sqlite3.IntegrityError):
            await bad
        await last
        for table in ("one", "two"):
            assert [row["n"] for row in await database.fetch_all(f"SELECT n FROM {table}")] == [1, 2]


async def test_the_rows_of_requests_that_are_written_together_take_one_statement_for_each_table(
    tmp_path: Path,
) -> None:
    async with opened_database(tmp_path / "pylon.db", TABLES) as (database, group):
        before = TransactionHere.execute_many
        calls: list[str] = []

        async def counted(tx: TransactionHere, sql: str, rows: Iterable[Values]) -> int:
            calls.append(sql)
            return await before(tx, sql, rows)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TransactionHere, "execute_many", counted)
            one, two = "INSERT INTO one VALUES (?)", "INSERT INTO two VALUES (?)"
            await asyncio.gather(*(written([Row(group, one, (n,)), Row(group, two, (n,))]) for n in (1, 2, 3)))
        assert calls == [one, two]
        assert [row["n"] for row in await database.fetch_all("SELECT n FROM two")] == [1, 2, 3]


async def test_what_cannot_be_written_down_is_not_sent_and_its_job_fails_at_once(tmp_path: Path) -> None:
    relays = FakeRelays()
    for _ in range(3):
        FakeProvider(relays, now=time.time())
    specs = [JobSpec("one"), JobSpec("two")]
    async with AsyncExitStack() as stack:
        database, group = await stack.enter_async_context(opened_database(tmp_path / "pylon.db", SWARM))
        client = await stack.enter_async_context(SwarmClient(relays, SecretKey.generate()))
        await client.caught_up()
        journal = await RunJournal.open(database, group, SystemClock(), specs, resume=False)
        async with database.transaction() as tx:
            await tx.execute("DROP TABLE swarm_request")
        began = time.monotonic()
        outcomes = await client.map(specs, journal=journal)
        assert time.monotonic() - began < 10.0
    assert [one.reason for one in outcomes if isinstance(one, JobFailed)] == [Failure.NOT_SENT] * 2
    for one in outcomes:
        assert isinstance(one, JobFailed) and "it could not be stored" in str(one) and "disk" in one.hint
    assert relays.requests() == []


async def test_requests_written_in_the_order_of_their_ids_are_in_that_of_their_sending_after(tmp_path: Path) -> None:
    path = tmp_path / "pylon.db"
    old = await Database.open(path, [Schema(SWARM.room, SWARM.migrations[:1])])
    async with old.transaction() as tx:
        await tx.execute("INSERT INTO swarm_run VALUES ('run', 'digest', 3, 1.0, NULL)")
        for request in ("cc", "aa", "bb"):
            await tx.execute(REQUEST, (request,))
    await old.close()
    async with opened_database(tmp_path / "pylon.db", SWARM) as (database, group):
        journal = RunJournal("run", database, group, SystemClock())
        assert (await journal.kept()).requests == ("cc", "aa", "bb")
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM swarm_run")
        assert await database.fetch_all("SELECT * FROM swarm_request") == []
