"""What was refused in words is known as long as a relay may deliver it again, over a crash and a full disk too."""

import sqlite3

import pytest

from pylon.jobs.codes import ErrorCode
from pylon.provider.intake import refused_requests as module
from pylon.provider.intake.refused_requests import KEEP_S, RefusedRequests
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from tests.manual_clock import ManualClock
from tests.opened import opened_database


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def journal(tmp_path):
    async with opened_database(tmp_path / "a.db", SCHEMA) as (database, group):
        yield Journal(database, group)


async def next_process(journal, clock) -> RefusedRequests:
    refused = RefusedRequests(journal, clock)
    await refused.start()
    return refused


async def test_it_is_on_disk_before_it_is_said(journal, clock):
    refused = await next_process(journal, clock)
    await refused.remember([("a", ErrorCode.BUSY), ("b", ErrorCode.BID_TOO_LOW)])
    again = await next_process(journal, clock)
    for one in (refused, again):
        assert [one.code(request) for request in "abc"] == [ErrorCode.BUSY, ErrorCode.BID_TOO_LOW, None]


async def test_one_with_a_code_of_another_version_ends_no_start_and_stays_refused(journal, clock):
    await journal.refuse([("a", "a_code_of_another_version", clock.wall()), ("b", "paused", clock.wall())])
    refused = await next_process(journal, clock)
    assert [refused.code(request) for request in "abc"] == [ErrorCode.BUSY, ErrorCode.PAUSED, None]


async def test_it_is_forgotten_when_no_relay_is_asked_for_it_any_more_and_said_again_it_counts_from_then(
    journal, clock
):
    refused = await next_process(journal, clock)
    await refused.remember([("a", ErrorCode.BUSY), ("b", ErrorCode.BUSY)])
    clock.advance(KEEP_S - 1)
    await refused.remember([("a", ErrorCode.PAUSED)])
    clock.advance(1)
    await refused.remember([])
    again = await next_process(journal, clock)
    for one in (refused, again):
        assert [one.code(request) for request in "ab"] == [ErrorCode.PAUSED, None]
    await journal.forget_refusals(before=clock.wall() - KEEP_S + 1)
    assert [row["id"] for row in await journal.refused(since=0, most=9)] == ["a"]


async def test_of_a_flood_the_latest_are_remembered_one_by_one_and_of_the_others_until_when_they_came(
    journal, clock, monkeypatch
):
    monkeypatch.setattr(module, "MOST", 3)
    refused = await next_process(journal, clock)
    began = clock.wall()
    for number in range(5):
        await refused.remember([(str(number), ErrorCode.BUSY)])
        clock.advance(1)
    for one in (refused, await next_process(journal, clock)):
        assert [one.code(str(number)) is None for number in range(5)] == [True, True, False, False, False]
        assert [one.may_be_forgotten(int(began) + number) for number in (0, 1, 2)] == [True, True, False]


async def test_a_flood_leaves_few_rows_more_on_disk_than_are_remembered_and_the_next_process_knows_the_same(
    journal, clock, monkeypatch
):
    monkeypatch.setattr(module, "MOST", 20)
    monkeypatch.setattr(module, "SURPLUS", 5)
    refused = await next_process(journal, clock)
    began = int(clock.wall())
    for number in range(100):
        await refused.remember([(str(number), ErrorCode.BUSY)])
        assert len(await journal.refused(since=0, most=999)) <= 20 + 5
        clock.advance(1)
    for one in (refused, await next_process(journal, clock)):
        assert [number for number in range(100) if one.code(str(number))] == list(range(80, 100))
        assert [one.may_be_forgotten(began + number) for number in (79, 80)] == [True, False]


async def test_on_a_full_disk_this_process_knows_and_the_next_one_once_there_is_room(journal, clock, monkeypatch):
    refused = await next_process(journal, clock)

    async def full(_):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(journal, "refuse", full)
        await refused.remember([("a", ErrorCode.PAUSED)])
    assert refused.code("a") is ErrorCode.PAUSED
    assert (await next_process(journal, clock)).code("a") is None
    await refused.remember([("b", ErrorCode.BUSY)])
    assert (await next_process(journal, clock)).code("a") is ErrorCode.PAUSED


async def test_a_flood_on_a_full_disk_leaves_no_more_to_write_than_the_next_process_needs(
    journal, clock, monkeypatch
):
    monkeypatch.setattr(module, "MOST", 3)
    refused = await next_process(journal, clock)
    written, began = [], int(clock.wall())

    async def full(rows):
        written[:] = rows
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(journal, "refuse", full)
        for number in range(9):
            await refused.remember([(str(number), ErrorCode.BUSY)])
            clock.advance(1)
    # Those that are kept, and the latest one.
    assert len(written) == 5
    await refused.remember([])
    again = await next_process(journal, clock)
    assert [number for number in range(9) if again.code(str(number))] == [6, 7, 8]
    assert [again.may_be_forgotten(began + number) for number in (5, 6)] == [True, False]
