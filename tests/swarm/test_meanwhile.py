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


async def test_its_value_is_there_and_an_error_that_nobody_asked_for_is_not_complained_of() -> None:
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async def work(number: int) -> int:
        return 1 // number

    over = asyncio.Event()
    async with meanwhile(work(1), over.set) as task:
        await over.wait()
        assert await task == 1
    over.clear()
    async with meanwhile(work(0), over.set):
        await over.wait()
    del task
    gc.collect()
    assert said == []
