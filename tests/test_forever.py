"""A loop of turns: errors end turns, and a cancellation ends the loop."""

import asyncio

import pytest

from pylon import forever as module
from pylon.forever import forever


async def test_an_error_ends_its_turn_and_the_loop_goes_on(monkeypatch):
    monkeypatch.setattr(module, "REST_S", 0.0)
    turns = 0
    enough = asyncio.Event()

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise OSError("the disk is full")
        if turns == 4:
            enough.set()
        await asyncio.sleep(0)

    task = asyncio.create_task(forever(turn, "test"))
    await asyncio.wait_for(enough.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_an_error_there_is_a_rest():
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        raise OSError("the disk is full")

    task = asyncio.create_task(forever(turn, "test"))
    await asyncio.sleep(0.1)
    task.cancel()
    assert turns == 1
