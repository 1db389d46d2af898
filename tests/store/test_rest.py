"""Commits that follow on each other leave each other room."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey
from pylon.relay.intake import Intake
from pylon.relay.retention import Outcome
from pylon.relay.rows import Publication
from pylon.relay.store import Placed
from pylon.store.database import Database, Schema
from pylon.store.group import GroupCommit
from pylon.store.rest import rest, rest_s

NOTES = Schema("notes", ("CREATE TABLE note (text TEXT NOT NULL) STRICT;",))


class Store:
    """A stand-in for an event store, which takes everything."""

    last_seq = 0

    def __init__(self) -> None:
        self.batches: list[int] = []

    async def insert(self, publications: list[Publication]) -> list[Placed]:
        self.batches.append(len(publications))
        return [Placed(Outcome.STORED, n) for n, _ in enumerate(publications, 1)]


def event(text: str) -> Event:
    return SecretKey.generate().sign(EventDraft(1, text, created_at=1))


def rest_until(over: asyncio.Event) -> Callable[..., Awaitable[None]]:
    """A rest that is as long as a test needs it."""

    async def rests(*_: float) -> None:
        await over.wait()

    return rests


async def said(submit: Callable[[Event, bytes, Callable[[bool, str], None]], None], text: str) -> None:
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    submit(event(text), b"", lambda *_: answered.set_result(None))
    await answered


def test_under_load_committing_takes_a_quarter_of_the_time_and_a_rest_three_hundredths_of_a_second_at_most():
    assert rest_s(0.002, 40) == rest_s(0.002, 400) == pytest.approx(0.006)
    assert rest_s(1.0, 40) == rest_s(0.1, 400) == 0.03


def test_a_rest_takes_a_millisecond_at_most_for_each_write_of_the_last_commit():
    assert rest_s(1.0, 4) == pytest.approx(0.004)
    assert rest_s(1.0, 20) == pytest.approx(0.02)


def test_where_few_write_nobody_waits_for_others():
    assert rest_s(0.002, 1) == rest_s(0.1, 3) == 0.0


async def test_a_rest_ends_when_the_loop_has_nothing_else_to_do(monkeypatch):
    monkeypatch.setattr("pylon.store.rest._MOST_S", 60.0)
    # A timer may be late on a busy machine; one of many is on time.
    async with asyncio.timeout(30):
        await rest(60.0, 60_000)


async def test_a_rest_goes_on_while_others_work(monkeypatch):
    monkeypatch.setattr("pylon.store.rest._ON_TIME_S", 0.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await rest(1.0, 30)
    assert loop.time() - began >= 0.03


async def test_writes_that_come_while_it_rests_share_one_commit(tmp_path, monkeypatch):
    rested = asyncio.Event()
    monkeypatch.setattr("pylon.store.group.rest", rest_until(rested))
    database = await Database.open(tmp_path / "a.db", [NOTES])
    group = GroupCommit(database)
    commits = []
    transaction = database.transaction_here

    def counted():
        commits.append(1)
        return transaction()

    monkeypatch.setattr(database, "transaction_here", counted)
    group.start()
    sql = "INSERT INTO note VALUES (?)"
    await group.execute(sql, ("the first waits for nobody",))
    second = group.execute(sql, ("second",))
    await asyncio.sleep(0.02)
    third = group.execute(sql, ("third",))
    rested.set()
    await asyncio.gather(second, third)
    assert len(commits) == 2
    await group.close()
    await database.close()


async def test_events_that_come_while_the_relay_rests_share_one_commit(monkeypatch):
    rested = asyncio.Event()
    monkeypatch.setattr("pylon.relay.intake.rest", rest_until(rested))
    store = Store()
    intake = Intake(store, lambda *_: None, max_bytes=1_000_000)
    running = asyncio.create_task(intake.run())
    await said(intake.submit, "the first waits for nobody")
    # What was said is done, rest or not.
    async with asyncio.timeout(20):
        await intake.drain()
    second = asyncio.create_task(said(intake.submit, "second"))
    await asyncio.sleep(0.02)
    third = asyncio.create_task(said(intake.submit, "third"))
    await asyncio.sleep(0)
    rested.set()
    await asyncio.gather(second, third)
    assert store.batches == [1, 2]
    running.cancel()
