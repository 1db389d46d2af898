import asyncio
import sqlite3
import threading

import pytest

from pylon.store.thread import SqliteThread


@pytest.fixture
async def thread(tmp_path):
    opened = SqliteThread.open(tmp_path / "a.db")
    await opened.run(lambda connection: connection.execute("CREATE TABLE note (text TEXT UNIQUE) STRICT"))
    yield opened
    await opened.close()


def insert(text):
    return lambda connection: connection.execute("INSERT INTO note VALUES (?)", (text,)).rowcount


def texts(connection):
    return [row["text"] for row in connection.execute("SELECT text FROM note ORDER BY rowid")]


async def test_calls_are_done_in_order_and_off_the_event_loop(thread):
    await asyncio.gather(*(thread.run(insert(str(n))) for n in range(50)))
    assert await thread.run(texts) == [str(n) for n in range(50)]
    assert await thread.run(lambda _: threading.current_thread()) is not threading.current_thread()


async def test_a_call_that_fails_fails_alone(thread):
    outcomes = await asyncio.gather(*map(thread.run, map(insert, "aba")), return_exceptions=True)
    assert outcomes[:2] == [1, 1]
    assert isinstance(outcomes[2], sqlite3.IntegrityError)


async def test_calls_that_gather_are_answered_in_one_go(thread, monkeypatch):
    goes = []
    original = thread._deliver
    monkeypatch.setattr(thread, "_deliver", lambda answers: (goes.append(len(answers)), original(answers)))
    await asyncio.gather(*(thread.run(insert(str(n))) for n in range(20)))
    assert goes == [20]


async def test_a_cancelled_caller_does_not_stop_its_call_nor_those_behind_it(thread):
    cancelled = asyncio.create_task(thread.run(insert("first")))
    await asyncio.sleep(0)
    cancelled.cancel()
    await thread.run(insert("second"))
    assert await thread.run(texts) == ["first", "second"]
    assert cancelled.cancelled()


async def test_closing_does_what_was_asked_for_and_ends_the_thread(tmp_path):
    thread = SqliteThread.open(tmp_path / "a.db")
    asked = asyncio.create_task(thread.run(lambda connection: connection.execute("CREATE TABLE late (id INTEGER)")))
    await asyncio.sleep(0)
    await asyncio.gather(thread.close(), thread.close())
    await asked
    thread._thread.join(5)
    assert not thread._thread.is_alive()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        await thread.run(texts)
