"""What was seen of providers is written down however often the disk refused it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pylon import forever
from pylon.node import reputation_writer
from pylon.node.reputation_writer import ReputationWriter
from pylon.store.database import Database
from pylon.swarm.checks import reputation as reputation_module
from pylon.swarm.checks import reputation_store
from pylon.swarm.checks.reputation import Reputation, Seen
from pylon.swarm.schema import SWARM

DISK_FULL = sqlite3.OperationalError("database or disk is full")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "pylon.db", [SWARM])
    yield opened
    await opened.close()


def full(database: Database, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """From now on the disk takes nothing, until the monkeypatch is undone; set when that was tried."""
    tried = asyncio.Event()

    def refuse() -> None:
        tried.set()
        raise DISK_FULL

    monkeypatch.setattr(database, "transaction", refuse)
    return tried


async def on_disk(database: Database) -> set[str]:
    return {row["provider"] for row in await database.fetch_all("SELECT provider FROM swarm_reputation")}


async def test_a_write_that_fails_ends_no_later_one_and_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reputation_writer, "EVERY_S", 0.01)
    monkeypatch.setattr(forever, "REST_S", 0.01)
    reputation = Reputation()
    reputation.note("early", Seen.FORGED, 1_000.0)
    with monkeypatch.context() as trouble:
        tried = full(database, trouble)
        writer = ReputationWriter(database, reputation)
        writer.start()
        await asyncio.wait_for(tried.wait(), 10)
    reputation.note("late", Seen.PASSED, 1_000.0)
    async with asyncio.timeout(10):
        while await on_disk(database) != {"early", "late"}:
            await asyncio.sleep(0.01)
    await writer.close()


async def test_what_was_forgotten_is_deleted_when_the_disk_takes_it_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reputation_module, "REMEMBERED", 1)
    reputation = Reputation()
    reputation.note("old", Seen.PASSED, 1_000.0)
    await reputation_store.save(database, reputation)
    reputation.note("new", Seen.PASSED, 1_001.0)
    with monkeypatch.context() as trouble:
        full(database, trouble)
        with pytest.raises(sqlite3.OperationalError):
            await reputation_store.save(database, reputation)
    assert await on_disk(database) == {"old"}
    reputation.note("newer", Seen.PASSED, 1_002.0)
    await reputation_store.save(database, reputation)
    assert await on_disk(database) == {"newer"}


async def test_a_last_write_that_fails_is_logged_and_ends_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reputation = Reputation()
    writer = ReputationWriter(database, reputation)
    writer.start()
    reputation.note("late", Seen.PASSED, 1_000.0)
    with monkeypatch.context() as trouble:
        full(database, trouble)
        await writer.close()
    assert "could not be stored" in caplog.text
