"""While nothing can be written, that is a reason to take nothing on; it is tried until something can."""

import asyncio
import sqlite3

import pytest

from pylon.provider import writable
from pylon.provider.writable import WRITTEN, Writable
from tests.manual_clock import ManualClock
from tests.waiting import until

FULL = sqlite3.OperationalError("database or disk is full")


class Disk:
    """A stand-in for a journal on a disk that may be full, and whoever hears of it."""

    def __init__(self) -> None:
        self.full, self.error = True, sqlite3.OperationalError("database or disk is full")
        self.tried, self.written, self.told = 0, [], []
        self.writable = Writable(journal=self, clock=ManualClock(wall=1_000.5), changed=self.changed)

    async def remember(self, name: str, value: str) -> None:
        self.tried += 1
        if self.full:
            raise self.error
        self.written.append((name, value))

    def changed(self) -> None:
        self.told.append(self.writable.reason)


@pytest.fixture
async def disk(monkeypatch):
    monkeypatch.setattr(writable, "WRITE_AGAIN_S", 0.01)
    disk = Disk()
    yield disk
    await disk.writable.close()


async def test_there_is_no_reason_while_nothing_has_failed(disk):
    assert disk.writable.reason == "" and disk.told == []


async def test_a_failure_is_a_reason_until_something_was_written_and_both_are_told(disk):
    disk.writable.failed(FULL)
    assert disk.writable.reason == "disk" and disk.told == ["disk"]
    await until(lambda: disk.tried >= 3)
    assert disk.writable.reason == "disk" and disk.told == ["disk"]
    disk.full = False
    await until(lambda: disk.writable.reason == "")
    assert disk.written == [(WRITTEN, "1000")] and len(disk.told) == 2


async def test_many_failures_at_once_are_one(disk):
    for _ in range(5):
        disk.writable.failed(FULL)
    disk.full = False
    await until(lambda: disk.writable.reason == "")
    assert disk.tried == 1 and disk.told[0] == "disk" and len(disk.told) == 2


async def test_it_may_fail_again_later(disk):
    disk.full = False
    disk.writable.failed(FULL)
    await until(lambda: disk.writable.reason == "")
    disk.full = True
    disk.writable.failed(FULL)
    assert disk.writable.reason == "disk"


async def test_who_closes_it_ends_the_tries(disk):
    disk.writable.failed(FULL)
    await disk.writable.close()
    before = disk.tried
    await asyncio.sleep(0.05)
    assert disk.tried == before


async def test_a_database_that_is_damaged_is_a_reason_for_good_and_nothing_is_tried(disk):
    disk.full = False
    damage = sqlite3.DatabaseError("database disk image is malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    assert disk.writable.failed(FULL) == "disk"
    assert [disk.writable.failed(error) for error in (damage, damage, FULL)] == ["database"] * 3
    assert disk.told == ["disk", "database"]
    # The tries that had begun before go on, until one of them succeeds.
    await until(lambda: len(disk.told) > 2)
    await asyncio.sleep(0.05)
    assert disk.writable.reason == "database" and disk.tried == 1
