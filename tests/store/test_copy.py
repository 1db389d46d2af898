"""A copy of a database, made beside whoever writes it."""

import shutil
import sqlite3
import stat
import threading
from contextlib import closing

import pytest

from pylon.errors import SetupError
from pylon.store import copy as module
from pylon.store import marks
from pylon.store.copy import copy_database
from pylon.store.database import Database, Schema
from pylon.store.look import look_into
from tests.store.cut_off import no_table_yet, nothing_yet

ROOM = Schema(
    "room",
    (
        "CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT) STRICT;"
        " CREATE TABLE told (id INTEGER PRIMARY KEY, number INTEGER) STRICT; INSERT INTO told VALUES (1, 0);",
    ),
)
AT = 1_700_000_000.5
SIZE = 4_096


def unheard(copied: int, size: int) -> None:
    """For who wants to hear nothing."""


async def made(path, rows: int = 80_000) -> Database:
    database = await Database.open(path, [ROOM], label="play")
    async with database.transaction() as tx:
        await tx.execute_many("INSERT INTO thing (name) VALUES (?)", [(f"a thing {n:020}",) for n in range(rows)])
        await tx.execute("UPDATE told SET number = ?", (rows,))
    return database


async def test_it_is_of_one_moment_however_much_is_written_meanwhile(tmp_path):
    database = await made(tmp_path / "a.db")
    done, written, heard = threading.Event(), threading.Event(), []

    def write() -> None:
        # Both tables say the same after each of its commits.
        with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=10)) as other:
            while not done.is_set():
                other.execute("BEGIN IMMEDIATE")
                other.execute("UPDATE thing SET name = name || 'x' WHERE id % 97 = 0")
                other.execute("INSERT INTO thing (name) VALUES ('new')")
                other.execute("UPDATE told SET number = number + 1")
                other.execute("COMMIT")
                written.set()

    def told(copied: int, size: int) -> None:
        heard.append((copied, size))
        written.clear()
        # Something is committed between any two pieces.
        assert written.wait(60)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        copy_database(tmp_path / "a.db", tmp_path / "b.db", label="play", at=AT, told=told)
    finally:
        done.set()
        writing.join()
    # It did not begin again.
    assert heard == sorted(heard) and len({size for _, size in heard}) == 1 and len(heard) > 1
    assert heard[-1][0] == heard[-1][1]
    with closing(sqlite3.connect(tmp_path / "b.db")) as copy:
        assert (
            copy.execute("SELECT count(*) FROM thing").fetchone()
            == copy.execute("SELECT number FROM told").fetchone()
        )
    await database.close()


async def test_it_holds_what_is_in_the_log_alone_and_is_one_file_of_its_owner_alone(tmp_path):
    database = await made(tmp_path / "a.db", rows=3)
    (tmp_path / "copy").mkdir()
    copy_database(tmp_path / "a.db", tmp_path / "copy" / "a.db", label="play", at=AT, told=unheard)
    await database.close()
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["a.db"]
    assert stat.S_IMODE((tmp_path / "copy" / "a.db").stat().st_mode) == 0o600
    again = await Database.open(tmp_path / "copy" / "a.db", [ROOM], label="play")
    row = await again.fetch_one("SELECT count(*) FROM thing")
    assert row is not None and row[0] == 3
    await again.close()


async def test_what_a_killed_process_left_in_its_log_is_copied(tmp_path):
    database = await made(tmp_path / "running.db", rows=3)
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"running.db{end}", tmp_path / f"a.db{end}")
    await database.close()
    copy_database(tmp_path / "a.db", tmp_path / "b.db", label="play", at=AT, told=unheard)
    with closing(sqlite3.connect(tmp_path / "b.db")) as copy:
        assert copy.execute("SELECT number FROM told").fetchone() == (3,)


@pytest.mark.parametrize("beside", [(), ("-wal",), ("-wal", "-shm")])
async def test_a_snapshot_that_cannot_be_written_is_copied_with_its_log_and_nothing_is_made_in_it(
    tmp_path, monkeypatch, beside
):
    snapshot, target = tmp_path / "snapshot", tmp_path / "copy" / "b.db"
    snapshot.mkdir()
    target.parent.mkdir()
    database = await made(tmp_path / "a.db", rows=3)
    if not beside:
        await database.close()
    for end in ("", *beside):
        shutil.copy(tmp_path / f"a.db{end}", snapshot / f"a.db{end}")
    await database.close()
    before = {path.name: path.read_bytes() for path in snapshot.iterdir() if not path.name.endswith("-shm")}
    # Root may write there whatever the mode says.
    monkeypatch.setattr(module, "_can_be_written", lambda folder: folder != snapshot)
    snapshot.chmod(0o500)
    try:
        copy_database(snapshot / "a.db", target, label="play", at=AT, told=unheard)
        assert {p.name: p.read_bytes() for p in snapshot.iterdir() if not p.name.endswith("-shm")} == before
    finally:
        snapshot.chmod(0o700)
    assert [path.name for path in target.parent.iterdir()] == ["b.db"]
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT number FROM told").fetchone() == (3,)


async def test_what_others_begin_with_while_it_is_read_without_a_lock_is_no_copy(tmp_path, monkeypatch):
    await (await made(tmp_path / "a.db", rows=3)).close()
    monkeypatch.setattr(module, "_can_be_written", lambda _: False)
    with pytest.raises(SetupError, match=r"another program started to write .*a\.db"):
        copy_database(
            tmp_path / "a.db", tmp_path / "b.db", label="play", at=AT,
            told=lambda *_: (tmp_path / "a.db-wal").touch(),
        )  # fmt: skip


async def test_it_says_that_it_is_a_copy_until_it_is_begun_with(tmp_path):
    await (await made(tmp_path / "a.db", rows=3)).close()
    copy_database(tmp_path / "a.db", tmp_path / "b.db", label="play", at=AT, told=unheard)
    # A copy of that says when its books ended, and not when it was made.
    at = copy_database(tmp_path / "b.db", tmp_path / "c.db", label="play", at=AT + 9, told=unheard)
    assert at == AT
    found = look_into(tmp_path / "c.db", [ROOM], label="play", within_s=60)
    assert found is not None and found.copied_at == AT
    database = await Database.open(tmp_path / "c.db", [ROOM], label="play")
    assert (await marks.copied_at(database), await marks.begun_at(database)) == (AT, None)
    for now in (AT + 10, AT + 20):
        async with database.transaction() as tx:
            await marks.begin(tx, now)
        assert (await marks.copied_at(database), await marks.begun_at(database)) == (None, now)
    await database.close()
    original = look_into(tmp_path / "a.db", [ROOM], label="play", within_s=60)
    assert original is not None and original.copied_at is None


async def test_a_damaged_database_is_not_copied_as_if_it_were_whole(tmp_path):
    await (await made(tmp_path / "a.db")).close()
    with (tmp_path / "a.db").open("r+b") as stream:
        stream.seek(20 * SIZE)
        stream.write(b"\x07" * SIZE)
    with pytest.raises(SetupError, match=r"a\.db is damaged"):
        copy_database(tmp_path / "a.db", tmp_path / "b.db", label="play", at=AT, told=unheard)
    (tmp_path / "a.db").write_bytes(b"no database at all" * 1_000)
    with pytest.raises(SetupError, match=r"a\.db cannot be opened"):
        copy_database(tmp_path / "a.db", tmp_path / "c.db", label="play", at=AT, told=unheard)


async def test_it_is_written_over_nothing(tmp_path):
    await (await made(tmp_path / "a.db", rows=3)).close()
    (tmp_path / "b.db").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        copy_database(tmp_path / "a.db", tmp_path / "b.db", label="play", at=AT, told=unheard)
    assert (tmp_path / "b.db").read_bytes() == b"mine"


async def test_of_a_first_start_that_was_cut_off_no_copy_is_made_and_what_is_empty_otherwise_is_told(tmp_path):
    for cut_off in (nothing_yet, no_table_yet):
        path, target = tmp_path / f"{cut_off.__name__}.db", tmp_path / "b.db"
        cut_off(path)
        (tmp_path / f"{path.name}-new").touch()
        assert copy_database(path, target, label="play", at=AT, told=unheard) is None and not target.exists()
        (tmp_path / f"{path.name}-new").unlink()
        with pytest.raises(SetupError, match="is empty, although it was not when it was created"):
            copy_database(path, target, label="play", at=AT, told=unheard)
        assert not target.exists()
