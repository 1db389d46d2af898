import asyncio
import sqlite3
import stat
import threading

import pytest

from pylon.errors import SetupError
from pylon.store.database import Database, Schema
from pylon.store.faults import cannot_be_opened, told
from tests.waiting import until

NOTES = Schema("notes", ("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;",))


async def test_committed_rows_are_there_after_reopening(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO note (text) VALUES (?)", ("kept",))
    await database.close()
    again = await Database.open(tmp_path / "a.db", [NOTES])
    rows = await again.fetch_all("SELECT text FROM note")
    await again.close()
    assert [row["text"] for row in rows] == ["kept"]


async def test_a_block_that_raises_leaves_nothing(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    with pytest.raises(ValueError, match="no"):
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO note (text) VALUES ('lost')")
            raise ValueError("no")
    assert await database.fetch_all("SELECT * FROM note") == []
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO note (text) VALUES ('next')")
    assert len(await database.fetch_all("SELECT * FROM note")) == 1
    await database.close()


async def test_a_cancelled_block_leaves_nothing_and_the_next_one_works(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    entered = asyncio.Event()

    async def stuck() -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO note (text) VALUES ('lost')")
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(stuck())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as tx:
        assert await tx.fetch_all("SELECT * FROM note") == []
    await database.close()


async def test_a_write_in_one_go_is_committed_when_it_returns_and_undone_when_it_raises(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])

    def broken(connection):
        connection.execute("INSERT INTO note (text) VALUES ('lost')")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(broken)
    text = "INSERT INTO note (text) VALUES ('kept') RETURNING id"
    assert await database.write(lambda connection: connection.execute(text).fetchone()["id"]) == 1
    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note")] == ["kept"]
    await database.close()


async def test_a_block_cancelled_while_it_begins_leaves_no_transaction_open(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])

    async def block() -> None:
        async with database.transaction():
            pass

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO note (text) VALUES ('next')")
    assert len(await database.fetch_all("SELECT * FROM note")) == 1
    await database.close()


async def test_readers_do_not_see_an_open_transaction(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO note (text) VALUES ('not yet')")
        assert await database.fetch_all("SELECT * FROM note") == []
        assert len(await tx.fetch_all("SELECT * FROM note")) == 1
    assert len(await database.fetch_all("SELECT * FROM note")) == 1
    await database.close()


async def test_migrations_run_once_and_rooms_are_counted_apart(tmp_path):
    path = tmp_path / "a.db"
    await (await Database.open(path, [NOTES])).close()
    longer = Schema("notes", (*NOTES.migrations, "ALTER TABLE note ADD COLUMN at INTEGER;"))
    other = Schema("other", ("CREATE TABLE thing (id INTEGER PRIMARY KEY) STRICT;",))
    database = await Database.open(path, [longer, other])
    assert await database.fetch_all("SELECT at FROM note") == []
    assert await database.fetch_all("SELECT id FROM thing") == []
    await database.close()


async def test_a_broken_migration_leaves_no_half(tmp_path):
    path = tmp_path / "a.db"
    broken = Schema("notes", ("CREATE TABLE first (id INTEGER) STRICT; CREATE TABLE first (id INTEGER) STRICT;",))
    with pytest.raises(SetupError, match="already exists"):
        await Database.open(path, [broken])
    database = await Database.open(path, [])
    assert await database.fetch_all("SELECT name FROM sqlite_schema WHERE name = 'first'") == []
    await database.close()


async def test_a_newer_database_is_refused(tmp_path):
    path = tmp_path / "a.db"
    longer = Schema("notes", (*NOTES.migrations, "ALTER TABLE note ADD COLUMN at INTEGER;"))
    await (await Database.open(path, [longer])).close()
    with pytest.raises(SetupError, match="newer Pylon"):
        await Database.open(path, [NOTES])


async def test_a_database_of_another_network_is_refused(tmp_path):
    await (await Database.open(tmp_path / "a.db", [], label="regtest")).close()
    with pytest.raises(SetupError, match="belongs to 'regtest'"):
        await Database.open(tmp_path / "a.db", [], label="mainnet")


async def test_a_foreign_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (id INTEGER)")
    connection.commit()
    connection.close()
    with pytest.raises(SetupError, match="not a Pylon database"):
        await Database.open(path, [NOTES])
    path.write_bytes(b"this is no database at all, only text" * 100)
    with pytest.raises(SetupError, match="cannot be opened"):
        await Database.open(path, [NOTES])


async def test_only_the_owner_may_read_the_file(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600
    await database.close()


async def test_statements_run_here_are_committed_when_the_block_ends_and_undone_when_it_raises(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    async with database.transaction_here() as tx:
        await tx.execute_many("INSERT INTO note (text) VALUES (?)", [("one",), ("two",)])
        assert await tx.execute("UPDATE note SET text = text || '!'") == 2
        assert (await tx.fetch_one("SELECT count(*) AS n FROM note"))["n"] == 2
        assert await database.fetch_all("SELECT * FROM note") == []
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction_here() as tx:
            await tx.execute("UPDATE note SET text = 'lost'")
            await tx.execute("INSERT INTO note VALUES (1, 'twice')")
    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note")] == ["one!", "two!"]
    await database.close()


async def test_another_transaction_waits_for_one_that_runs_here(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])

    async def other():
        async with database.transaction() as tx:
            return await tx.fetch_all("SELECT text FROM note")

    async with database.transaction_here() as tx:
        waiting = asyncio.create_task(other())
        await asyncio.sleep(0.01)
        await tx.execute("INSERT INTO note (text) VALUES ('first')")
    assert [row["text"] for row in await waiting] == ["first"]
    await database.close()


async def test_a_transaction_that_runs_here_and_is_cancelled_leaves_nothing(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])

    inside = asyncio.Event()

    async def block():
        async with database.transaction_here() as tx:
            await tx.execute("INSERT INTO note (text) VALUES ('lost')")
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(block())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as tx:
        assert await tx.fetch_all("SELECT * FROM note") == []
    await database.close()


@pytest.mark.parametrize("turns", range(8))
async def test_one_that_is_cancelled_twice_as_it_ends_leaves_no_transaction_open(tmp_path, turns):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    written = asyncio.Event()

    async def block():
        async with database.transaction_here() as tx:
            await tx.execute("INSERT INTO note (text) VALUES ('first')")
            written.set()

    task = asyncio.create_task(block())
    await written.wait()
    # While it commits, and while it rolls back.
    task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with database.transaction_here() as tx:
        await tx.execute("INSERT INTO note (text) VALUES ('second')")
    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note")][-1] == "second"
    await database.close()


async def test_a_transaction_here_waits_for_another_process_and_the_program_goes_on(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def block():
        async with database.transaction_here() as tx:
            await tx.execute("INSERT INTO note (text) VALUES ('second')")

    task = asyncio.create_task(block())
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert not task.done()
    other.execute("INSERT INTO note (text) VALUES ('first')")
    other.execute("COMMIT")
    await asyncio.wait_for(task, 10)
    other.close()
    assert [row["text"] for row in await database.fetch_all("SELECT text FROM note ORDER BY id")] == [
        "first",
        "second",
    ]
    await database.close()


async def test_a_transaction_here_begins_after_one_whose_caller_has_gone(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    under_way, go_on = threading.Event(), threading.Event()

    def slow(connection):
        connection.execute("INSERT INTO note (text) VALUES ('first')")
        under_way.set()
        go_on.wait(5)

    task = asyncio.create_task(database.write(slow))
    await until(under_way.is_set)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    async with database.transaction_here() as tx:
        assert [row["text"] for row in await tx.fetch_all("SELECT text FROM note")] == ["first"]
        await tx.execute("INSERT INTO note (text) VALUES ('second')")
    assert len(await database.fetch_all("SELECT * FROM note")) == 2
    await database.close()


async def test_the_log_of_a_database_that_never_flushes_is_worked_into_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("pylon.store.database.LOG_CHANGES", 50)
    database = await Database.open(tmp_path / "a.db", [NOTES], durability="NORMAL")
    for _ in range(400):
        async with database.transaction_here() as tx:
            await tx.execute("INSERT INTO note (text) VALUES (?)", ("x" * 2_000,))
    # As much as they wrote would be several times that.
    assert (tmp_path / "a.db-wal").stat().st_size < 1_000_000
    await database.close()


async def test_to_delete_what_is_large_writes_a_fraction_of_it(tmp_path):
    large = 400_000
    database = await Database.open(tmp_path / "a.db", [NOTES])
    log = tmp_path / "a.db-wal"
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO note (text) VALUES (?)", ("x" * large,))
    before = log.stat().st_size
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM note")
    assert log.stat().st_size - before < large // 10
    await database.close()


async def test_a_version_that_no_pylon_writes_is_refused(tmp_path):
    path = tmp_path / "a.db"
    database = await Database.open(path, [NOTES])
    for version in (-1, 0):
        async with database.transaction() as tx:
            await tx.execute("UPDATE schema_version SET version = ?", (version,))
        with pytest.raises(SetupError, match="an unknown version"):
            await Database.open(path, [NOTES])
    await database.close()


async def test_tables_that_are_not_what_their_version_says_are_refused_with_what_to_do(tmp_path):
    path = tmp_path / "a.db"
    database = await Database.open(path, [NOTES])
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM schema_version")
    await database.close()
    with pytest.raises(SetupError, match="already exists") as caught:
        await Database.open(path, [NOTES])
    assert "backup" in caught.value.hint


async def test_damage_that_is_found_later_is_told_like_that_which_is_found_at_opening(tmp_path):
    path = tmp_path / "a.db"
    database = await Database.open(path, [NOTES])
    async with database.transaction() as tx:
        await tx.execute_many("INSERT INTO note (text) VALUES (?)", [("x" * 3_000,) for _ in range(60)])
    await database.close()
    spoil(path)
    database = await Database.open(path, [NOTES])
    for reading in (database.fetch_all("SELECT * FROM note"), database.write(count)):
        with pytest.raises(sqlite3.DatabaseError) as caught:
            await reading
        said = told(caught.value)
        assert isinstance(said, SetupError) and str(path) in str(said) and "cannot be opened" in str(said)
        assert "backup" in said.hint
    await database.close()


def spoil(path):
    """Overwrites the beginnings of the pages in the last third of a file."""
    with path.open("r+b") as file:
        pages = path.stat().st_size // 4_096
        for page in range(pages * 2 // 3, pages):
            file.seek(page * 4_096)
            file.write(b"\xa5" * 300)


def count(connection):
    return connection.execute("SELECT sum(length(text)) FROM note").fetchone()


@pytest.mark.parametrize("how", ["transaction", "transaction_here", "write"])
async def test_a_full_disk_is_told_with_the_file_that_it_refuses(tmp_path, how):
    path = tmp_path / "a.db"
    database = await Database.open(path, [NOTES])
    insert = ("INSERT INTO note (text) VALUES (?)", ("x" * 100_000,))
    async with database.transaction() as tx:
        await tx.fetch_one("PRAGMA max_page_count = 10")

    async def fill():
        if how == "write":
            return await database.write(lambda connection: connection.execute(*insert).rowcount)
        async with getattr(database, how)() as tx:
            return await tx.execute(*insert)

    with pytest.raises(sqlite3.OperationalError) as caught:
        await fill()
    said = told(caught.value)
    assert said is not None and str(path) in str(said) and "full" in str(said) and "Free some space" in said.hint
    await database.close()


async def test_a_fault_of_the_program_is_not_told_as_one_of_the_disk(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    with pytest.raises(sqlite3.OperationalError) as caught:
        await database.fetch_all("SELECT * FROM nowhere")
    assert told(caught.value) is None
    await database.close()


async def test_a_database_that_was_emptied_is_refused(tmp_path):
    path = tmp_path / "a.db"
    await (await Database.open(path, [NOTES])).close()
    path.write_bytes(b"")
    with pytest.raises(SetupError, match="is empty") as caught:
        await Database.open(path, [NOTES])
    assert "backup" in caught.value.hint and "delete it" in caught.value.hint
    path.unlink()
    await (await Database.open(path, [NOTES])).close()


async def test_a_copy_without_its_log_is_not_taken_for_a_new_database(tmp_path):
    database = await Database.open(tmp_path / "a.db", [NOTES])
    (tmp_path / "copy.db").write_bytes((tmp_path / "a.db").read_bytes())
    await database.close()
    with pytest.raises(SetupError, match="is empty"):
        await Database.open(tmp_path / "copy.db", [NOTES])


async def test_a_creation_that_a_crash_cut_short_is_gone_on_with(tmp_path, monkeypatch):
    path = tmp_path / "a.db"

    async def crash(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pylon.store.database._connect", crash)
        with pytest.raises(KeyboardInterrupt):
            await Database.open(path, [NOTES])
    assert path.stat().st_size == 0
    with monkeypatch.context() as patch:
        patch.setattr("pylon.store.database.Database.write", crash)
        with pytest.raises(KeyboardInterrupt):
            await Database.open(path, [NOTES])
    assert path.stat().st_size > 0
    await (await Database.open(path, [NOTES])).close()
    assert [file.name for file in tmp_path.iterdir()] == ["a.db"]


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (sqlite3.SQLITE_FULL, "Free some space on its disk"),
        (sqlite3.SQLITE_READONLY, "permission to write it"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "permission to write it"),
        (sqlite3.SQLITE_CORRUPT, "restore it from a backup"),
        (sqlite3.SQLITE_NOTADB, "restore it from a backup"),
        (sqlite3.SQLITE_IOERR_WRITE, "Check its owner and folder"),
        (sqlite3.SQLITE_BUSY, "Close the program that has it open"),
    ],
)
def test_each_fault_of_a_file_has_a_hint_of_its_own_at_opening_and_later(code, hint):
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    for said in (cannot_be_opened("/x.db", error), told(error)):
        assert hint in said.hint
        assert ("restore" in said.hint) == (hint == "restore it from a backup")


async def test_commits_are_flushed_through_the_cache_of_the_disk_where_that_takes_more_than_usual(tmp_path):
    database = await Database.open(tmp_path / "a.db", [])
    async with database.transaction() as tx:
        said = {name: (await tx.fetch_all(f"PRAGMA {name}"))[0][0] for name in ("fullfsync", "synchronous")}
    assert said == {"fullfsync": 1, "synchronous": 2}
    await database.close()
