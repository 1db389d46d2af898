"""Looking into a database that nobody has open."""

import shutil
import sqlite3
from contextlib import closing
from functools import partial

import pytest

from pylon.errors import SetupError
from pylon.store import look
from pylon.store.database import Database, Schema
from pylon.store.look import check_in_use, check_pages, look_into, opened_to_read
from tests.store.cut_off import no_table_yet, nothing_yet

ROOM = Schema(
    "room", ("CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT) STRICT; CREATE INDEX named ON thing (name)",)
)
SIZE = 4_096


async def made(folder, rows: int = 2_000):
    database = await Database.open(folder / "a.db", [ROOM], label="play")
    async with database.transaction() as tx:
        await tx.execute_many("INSERT INTO thing (name) VALUES (?)", [(f"a thing {n:020}",) for n in range(rows)])
    await database.close()
    return folder / "a.db"


def looked(path, *, label="play", schemas=(ROOM,), within_s=60.0):
    return look_into(path, schemas, label=label, within_s=within_s)


async def test_a_whole_one_is_whole_and_nothing_is_left_beside_it(tmp_path):
    path = await made(tmp_path)
    before = {each: each.stat().st_mtime_ns for each in tmp_path.iterdir()}
    found = looked(path)
    assert found is not None and (found.size, found.whole, found.copied_at) == (path.stat().st_size, True, None)
    assert {each: each.stat().st_mtime_ns for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("cut_off", [nothing_yet, no_table_yet])
async def test_where_there_is_none_or_a_first_start_that_was_cut_off_nothing_is_wrong(tmp_path, cut_off):
    path = tmp_path / "a.db"
    assert looked(path) is None
    cut_off(path)
    (tmp_path / "a.db-new").touch()
    found = looked(path)
    assert found is not None and (found.size, found.whole) == (0, True)
    # As the next start says it.
    await (await Database.open(path, [ROOM], label="play")).close()
    assert not (tmp_path / "a.db-new").exists()
    path.unlink()
    cut_off(path)
    for say in (looked, partial(Database.open, schemas=[ROOM], label="play")):
        with pytest.raises(SetupError, match="is empty, although it was not"):
            await say(path)


async def test_one_that_was_cut_is_damaged_wherever_it_was_cut(tmp_path):
    path = await made(tmp_path)
    whole = path.read_bytes()
    for size in (1, 100, SIZE, SIZE * 7, len(whole) - SIZE, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SetupError) as raised:
            looked(path)
        assert str(path) in str(raised.value) and "backup" in raised.value.hint, size
    path.write_bytes(b"")
    with pytest.raises(SetupError, match="is empty, although it was not"):
        looked(path)


async def test_a_page_that_was_written_over_is_found(tmp_path):
    path = await made(tmp_path)
    with path.open("r+b") as stream:
        stream.seek(10 * SIZE)
        stream.write(b"\x07" * SIZE)
    with pytest.raises(SetupError, match="damaged") as raised:
        looked(path)
    assert "\n" not in str(raised.value) and "backup" in raised.value.hint


async def test_what_a_killed_process_left_in_its_log_belongs_to_the_file(tmp_path):
    database = await Database.open(tmp_path / "running.db", [ROOM], label="play")
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    shutil.copy(tmp_path / "running.db", path)
    shutil.copy(tmp_path / "running.db-wal", log)
    await database.close()
    before = log.read_bytes()
    found = looked(path)
    assert found is not None and found.whole and log.read_bytes() == before
    log.unlink()
    with pytest.raises(SetupError):
        looked(path)


async def test_what_no_node_would_open_is_said_as_a_start_would_say_it(tmp_path):
    path = await made(tmp_path)
    with pytest.raises(SetupError, match="belongs to 'play', not to 'mainnet'"):
        looked(path, label="mainnet")
    with pytest.raises(SetupError, match=r"a newer Pylon \(room 1\)"):
        looked(path, schemas=[Schema("room", ())])
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as books:
        books.execute("CREATE TABLE t (a)")
    with pytest.raises(SetupError, match="is not a Pylon database"):
        looked(other)


async def test_looking_ends_when_its_time_is_over(tmp_path, monkeypatch):
    # What comes before the statement has begun interrupts nothing.
    monkeypatch.setattr(look, "_AGAIN_S", 0.001)
    path = await made(tmp_path, rows=300_000)
    with closing(opened_to_read(path)) as books:
        books.execute("SELECT count(*) FROM thing").fetchone()
        assert check_pages(books, path, 0.0) is False
        assert check_pages(books, path) is True


async def test_to_read_makes_no_file_and_throws_no_log_away(tmp_path):
    with pytest.raises(sqlite3.OperationalError), closing(opened_to_read(tmp_path / "a.db")) as books:
        books.execute("SELECT 1 FROM sqlite_schema")
    assert list(tmp_path.iterdir()) == []
    path = await made(tmp_path)
    path.write_bytes(b"")
    (tmp_path / "a.db-wal").write_bytes(b"all that is left")
    with closing(opened_to_read(path)) as books:
        assert books.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    assert (tmp_path / "a.db-wal").read_bytes() == b"all that is left"


async def test_an_index_that_lacks_what_its_table_has_is_damage_and_the_hint_says_what_mends_it(tmp_path):
    path = await made(tmp_path, rows=3)
    with closing(sqlite3.connect(path)) as books:
        page = books.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'named'").fetchone()[0]
    data = bytearray(path.read_bytes())
    data[data.find(b"a thing", (page - 1) * SIZE, page * SIZE)] ^= 1
    path.write_bytes(data)
    for reads in (partial(looked, path), partial(check_in_use, path)):
        with pytest.raises(SetupError, match="missing from index named") as caught:
            reads()
        assert "REINDEX" in caught.value.hint
