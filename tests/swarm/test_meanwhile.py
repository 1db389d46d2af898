"""What runs beside somebody ends with them."""

import asyncio
import gc

import pytest

from pylon.swarm.meanwhile import meanwhile


async def test_whoever_leaves_before_it_is_done_goes_on_when_it_has_ended() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(0.01)
            steps.append("ended")

    with pytest.raises(KeyError):
        async with meanwhile(work(), lambda: steps.append("over")):
            await asyncio.sleep(0)
            raise KeyError
    assert steps == ["ended", "over"]


async def test_its_value_is_there_when_it_is_over() -> None:
    over = asyncio.Event()
    async with meanwhile(asyncio.sleep(0, 1), over.set) as task:
        await over.wait()
        assert await task == 1


async def test_an_error_on_its_way_to_its_end_is_not_complained_of() -> None:
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async def work() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            raise ValueError("a fault of ours")

    async with meanwhile(work(), lambda: None):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert said == []
