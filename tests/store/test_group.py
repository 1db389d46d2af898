import asyncio
import sqlite3

import pytest

from pylon.store.database import Database, Schema, Transaction
from pylon.store.group import GroupCommit
from pylon.store.thread import SqliteThread

NOTES = Schema("notes", ("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;",))


@pytest.fixture
async def database(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    yield database
    await database.close()


@pytest.fixture
async def group(database):
    group = GroupCommit(database)
    group.start()
    yield group
    await group.close()


async def test_a_submitted_write_is_committed_when_submit_returns(database, group):
    await group.execute("INSERT INTO note (text) VALUES ('a')")
    assert len(await database.fetch_all("SELECT * FROM note")) == 1


async def test_a_write_that_nobody_waits_for_goes_with_the_next_one(database, group):
    group.execute_later("INSERT INTO note (text) VALUES ('first')")
    await group.execute("INSERT INTO note (text) VALUES ('second')")
    rows = await database.fetch_all("SELECT text FROM note ORDER BY id")
    assert [row["text"] for row in rows] == ["first", "second"]


async def test_a_write_that_nobody_waits_for_is_committed_before_long_when_nothing_else_comes(database, group):
    group.execute_later("INSERT INTO note (text) VALUES ('alone')")
    async with asyncio.timeout(10):
        while not await database.fetch_all("SELECT * FROM note"):
            await asyncio.sleep(0.02)


async def test_a_write_that_nobody_waits_for_is_committed_at_once_where_it_shall_be_soon(
    database, group, monkeypatch
):
    monkeypatch.setattr("pylon.store.group.LATER_S", 3_600.0)
    group.execute_later("INSERT INTO note (text) VALUES ('soon')", soon=True)
    async with asyncio.timeout(10):
        while not await database.fetch_all("SELECT * FROM note"):
            await asyncio.sleep(0.02)


async def test_closing_commits_what_nobody_waits_for(database):
    group = GroupCommit(database)
    group.start()
    group.execute_later("INSERT INTO note (text) VALUES ('last words')")
    await group.close()
    assert len(await database.fetch_all("SELECT * FROM note")) == 1


async def test_a_write_that_nobody_waits_for_is_reported_when_it_fails_and_hinders_nobody(
    database, group, monkeypatch
):
    said = []
    monkeypatch.setattr("pylon.store.group._log.error", lambda event, **_: said.append(event), raising=False)
    group.execute_later("INSERT INTO nowhere VALUES (1)")
    assert await group.execute("INSERT INTO note (text) VALUES ('after')") == 1
    assert said == ["a write was lost"]


async def test_an_executed_write_tells_how_many_rows_it_changed(group):
    insert = "INSERT INTO note (text) VALUES ('once') ON CONFLICT DO NOTHING"
    assert [await group.execute(insert), await group.execute(insert)] == [1, 0]


async def test_a_step_that_fails_undoes_itself_alone(database, group):
    async def twice(tx: Transaction) -> None:
        await tx.execute("INSERT INTO note (text) VALUES ('half')")
        raise ValueError("second half failed")

    outcomes = await asyncio.gather(
        group.execute("INSERT INTO note (text) VALUES ('before')"),
        group.submit(twice),
        group.execute("INSERT INTO note (text) VALUES ('after')"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], ValueError)
    rows = await database.fetch_all("SELECT text FROM note ORDER BY id")
    assert [row["text"] for row in rows] == ["before", "after"]


async def test_writes_that_wait_together_share_a_transaction(database, group, monkeypatch):
    transactions = 0
    original = database.transaction_here

    def counted():
        nonlocal transactions
        transactions += 1
        return original()

    monkeypatch.setattr(database, "transaction_here", counted)
    await asyncio.gather(*(group.execute("INSERT INTO note (text) VALUES (?)", (str(n),)) for n in range(200)))
    assert len(await database.fetch_all("SELECT * FROM note")) == 200
    assert transactions < 20


async def test_closing_commits_what_waits(database):
    group = GroupCommit(database)
    write = group.execute("INSERT INTO note (text) VALUES ('late')")
    await asyncio.sleep(0)
    await group.close()
    await write
    assert len(await database.fetch_all("SELECT * FROM note")) == 1


async def test_closing_waits_for_the_group_that_is_being_written(database):
    group = GroupCommit(database)
    group.start()
    write = group.execute("INSERT INTO note (text) VALUES ('under way')")
    while group._waiting or not group._turn.locked():
        await asyncio.sleep(0)
    await group.close()
    await asyncio.wait_for(write, 1)
    assert len(await database.fetch_all("SELECT * FROM note")) == 1


async def test_one_bad_row_among_equal_statements_fails_alone(database, group):
    texts = ["a", "b", "a", "c"]
    outcomes = await asyncio.gather(
        *(group.execute("INSERT INTO note (text) VALUES (?)", (text,)) for text in texts), return_exceptions=True
    )
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, False, True, False]
    rows = await database.fetch_all("SELECT text FROM note ORDER BY id")
    assert [row["text"] for row in rows] == ["a", "b", "c"]


async def test_nothing_is_written_when_one_statement_ends_the_whole_transaction(database, group):
    await group.execute("INSERT INTO note (text) VALUES ('taken')")
    outcomes = await asyncio.gather(
        group.execute("INSERT INTO note (text) VALUES ('before')"),
        group.execute("INSERT OR ROLLBACK INTO note (text) VALUES ('taken')"),
        group.execute("INSERT INTO note (text) VALUES ('after')"),
        return_exceptions=True,
    )
    assert all(isinstance(outcome, sqlite3.IntegrityError) for outcome in outcomes)
    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note")] == ["taken"]
    await group.execute("INSERT INTO note (text) VALUES ('next')")


async def test_to_commit_is_all_that_goes_to_another_thread(database, group, monkeypatch):
    trips = []
    run = SqliteThread.run

    async def counted(self, work, **when):
        trips.append(work)
        return await run(self, work, **when)

    monkeypatch.setattr(SqliteThread, "run", counted)

    async def step(tx: Transaction) -> int:
        await tx.execute("INSERT INTO note (text) VALUES ('b')")
        return len(await tx.fetch_all("SELECT * FROM note"))

    outcomes = await asyncio.gather(
        group.execute("INSERT INTO note (text) VALUES ('a')"),
        group.submit(step),
        group.execute("INSERT INTO note (text) VALUES ('c')"),
    )
    assert len(trips) == 1
    assert outcomes == [1, 2, 1]


async def test_a_step_that_fails_has_the_others_run_a_second_time_and_undoes_itself_alone(database, group):
    def note(*texts: str):
        async def step(tx: Transaction) -> int:
            for text in texts:
                await tx.execute("INSERT INTO note (text) VALUES (?)", (text,))
            return len(await tx.fetch_all("SELECT * FROM note"))

        return group.submit(step)

    outcomes = await asyncio.gather(
        group.execute("INSERT INTO note (text) VALUES ('a')"),
        note("b"),
        note("half", "a"),
        note("c"),
        note("d", "b"),
        return_exceptions=True,
    )
    assert (outcomes[0], outcomes[1], outcomes[3]) == (1, 2, 3)
    assert isinstance(outcomes[2], sqlite3.IntegrityError) and isinstance(outcomes[4], sqlite3.IntegrityError)
    rows = await database.fetch_all("SELECT text FROM note ORDER BY id")
    assert [row["text"] for row in rows] == ["a", "b", "c"]


async def test_a_step_that_waits_for_anything_else_is_refused_and_undone(database, group):
    async def step(tx: Transaction) -> None:
        await tx.execute("INSERT INTO note (text) VALUES ('lost')")
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="nothing else"):
        await group.submit(step)
    assert await database.fetch_all("SELECT * FROM note") == []


async def test_the_program_has_its_turn_while_a_large_group_is_written(database):
    group = GroupCommit(database)
    turns = 0

    async def step(tx: Transaction) -> int:
        return turns

    async def elsewhere() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(elsewhere())
    writes = [group.submit(step) for _ in range(200)]
    await group.close()
    other.cancel()
    assert len({await write for write in writes}) > 2


def many(calls):
    """A step for many items: writes each; one named "bad" fails."""

    async def write(tx: Transaction, items: list[str]) -> list[str]:
        calls.append(list(items))
        for item in items:
            await tx.execute("INSERT INTO note (text) VALUES (?)", (item,))
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]

    return write


async def test_items_for_one_step_that_are_committed_together_are_given_to_it_at_once(database, group):
    calls = []
    write = many(calls)
    values = await asyncio.gather(
        group.submit_to(write, "a"),
        group.execute("INSERT INTO note (text) VALUES ('between')"),
        group.submit_to(write, "b"),
        group.submit_to(many([]), "other"),
    )
    assert values == ["A", 1, "B", "OTHER"]
    assert calls == [["a", "b"]]
    rows = await database.fetch_all("SELECT text FROM note ORDER BY id")
    assert [row["text"] for row in rows] == ["a", "b", "between", "other"]


async def test_an_item_that_fails_among_others_undoes_itself_alone(database, group):
    calls = []
    write = many(calls)
    outcomes = await asyncio.gather(
        *(group.submit_to(write, item) for item in ("a", "bad", "b")),
        group.execute("INSERT INTO note (text) VALUES ('after')"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [str, ValueError, str, int]
    assert calls == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]
    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note")] == ["a", "b", "after"]


async def test_a_step_is_not_given_so_many_items_that_the_rest_of_the_program_waits_long(group):
    calls = []
    write = many(calls)
    await asyncio.gather(*(group.submit_to(write, str(number)) for number in range(150)))
    assert [item for items in calls for item in items] == [str(number) for number in range(150)]
    assert max(map(len, calls)) == 64


async def test_a_step_that_gives_too_few_values_fails_for_everyone_who_waits_for_it(database, group):
    async def forgetful(_tx: Transaction, _items: list[str]) -> list[str]:
        return []

    outcomes = await asyncio.gather(*(group.submit_to(forgetful, n) for n in "ab"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]


async def test_whoever_waits_hears_when_a_close_that_commits_is_given_up(database):
    group = GroupCommit(database)
    # Nothing commits but the close.
    write = group.execute("INSERT INTO note (text) VALUES ('last')")
    closing = asyncio.create_task(group.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(sqlite3.OperationalError, match="not known"):
        await asyncio.wait_for(write, 5)


async def test_a_write_after_the_close_is_refused(group):
    await group.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await asyncio.wait_for(group.execute("INSERT INTO note (text) VALUES ('late')"), 5)


async def test_on_a_full_disk_everybody_hears_that_it_is_full(database, group):
    async def step(tx):
        await tx.execute("INSERT INTO note (text) VALUES (hex(randomblob(50000)))")

    async with database.transaction() as tx:
        row = await tx.fetch_one("PRAGMA page_count")
        assert row is not None
        await tx.execute(f"PRAGMA max_page_count = {row[0] + 10}")
    said = await asyncio.gather(*(group.submit(step) for _ in range(3)), return_exceptions=True)
    assert [str(one) for one in said] == ["database or disk is full"] * 3
    assert await database.fetch_all("SELECT * FROM note") == []


async def test_whoever_goes_on_with_another_write_when_the_close_commits_the_last_hears_of_it(group):
    async def one_after_another():
        await group.execute("INSERT INTO note (text) VALUES ('first')")
        await group.execute("INSERT INTO note (text) VALUES ('second')")

    writing = asyncio.create_task(one_after_another())
    await asyncio.sleep(0)
    await group.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await asyncio.wait_for(writing, 5)


async def test_a_write_after_the_close_that_nobody_waits_for_is_logged(database, group, caplog):
    await group.close()
    group.execute_later("INSERT INTO note (text) VALUES ('late')")
    assert [record.getMessage() for record in caplog.records] == ["a write was lost"]
    assert await database.fetch_all("SELECT * FROM note") == []
