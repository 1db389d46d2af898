"""What runs beside somebody ends with them."""

import asyncio

import pytest

from pylon.swarm.meanwhile import LatestValue, meanwhile


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


async def test_who_reads_slowly_gets_the_latest_alone_and_the_last_before_it_is_over() -> None:
    texts = LatestValue[str]()
    texts.say("a")
    texts.say("a b")
    assert await anext(texts) == "a b"
    reading = asyncio.create_task(anext(texts))
    await asyncio.sleep(0)
    assert not reading.done()
    texts.say("a b c")
    assert await reading == "a b c"
    texts.say("a b c d")
    texts.over()
    assert [text async for text in texts] == ["a b c d"]
    assert [text async for text in texts] == []
