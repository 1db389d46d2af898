"""What `pylon ask` and `pylon map` say while nobody works on what was asked."""

import asyncio

import pytest

from pylon.cli import waiting
from pylon.cli.waiting import NO_RELAY, NOBODY, Waiting
from pylon.node.loading import loading_text

IDLE = {"loading": 0, "in_flight": 0, "done": 0, "failed": 0}


@pytest.fixture
def told(monkeypatch):
    texts = []
    monkeypatch.setattr(waiting, "_QUIET_S", 0.05)
    monkeypatch.setattr(waiting.err, "print", lambda text, **_: texts.append(text))
    return texts


async def said(told, *events, quiet=False):
    """What is said when these events come, each after a while."""
    async with Waiting(quiet=quiet) as wait:
        for event in events:
            await asyncio.sleep(0.2)
            wait.tell(event)
        await asyncio.sleep(0.2)
    return told


async def test_no_relay_is_said_and_then_that_nobody_takes_it(told):
    assert await said(told) == [NO_RELAY]
    told.clear()
    assert await said(told, IDLE) == [NO_RELAY, NOBODY]


@pytest.mark.parametrize("event", [IDLE, {**IDLE, "done": 2, "failed": 2}])
async def test_that_nobody_takes_it_is_said_where_a_relay_was_there_at_once(told, event):
    async with Waiting(quiet=False) as wait:
        for _ in range(4):
            wait.tell(event)
            await asyncio.sleep(0.05)
    assert told == [NOBODY]


@pytest.mark.parametrize("event", [{**IDLE, "in_flight": 1}, {**IDLE, "done": 1}])
async def test_nothing_is_said_of_what_somebody_works_on(told, event):
    async with Waiting(quiet=False) as wait:
        wait.tell(event)
        await asyncio.sleep(0.2)
    assert told == []


async def test_of_those_who_load_their_number_is_said_and_not_that_nobody_is_there(told):
    async with Waiting(quiet=False) as wait:
        for loading in (1, 1, 2, 1):
            wait.tell({"loading": loading})
            await asyncio.sleep(0.05)
    assert told == [loading_text(1), loading_text(2)]


async def test_a_program_that_reads_is_told_nothing(told):
    assert await said(told, IDLE, {"loading": 2}, quiet=True) == []
