"""Whoever asks for cancellations anew lets go of none that is being taken."""

import asyncio
from types import SimpleNamespace

from pylon.provider.intake import open_cancels
from pylon.provider.intake.open_cancels import OpenCancels
from tests.waiting import until


class Subscription:
    """A stand-in that gives what it has, and then nothing."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.events:
            await asyncio.Event().wait()
        return SimpleNamespace(event=self.events.pop(0))

    async def close(self) -> None:
        pass


class Pool:
    """A stand-in whose first subscription brings one cancellation, and whose others bring none."""

    def __init__(self) -> None:
        self.asked = 0

    def subscribe(self, filters, name) -> Subscription:
        self.asked += 1
        return Subscription(["cancellation"] if self.asked == 1 else [])


async def test_a_cancellation_that_is_being_taken_is_taken_whole_when_other_jobs_are_asked_for(monkeypatch):
    monkeypatch.setattr(open_cancels, "LOOK_S", 0.01)
    pool, written, ends = Pool(), asyncio.Event(), []

    async def take(event) -> None:
        try:
            await written.wait()
            ends.append(event)
        except asyncio.CancelledError:
            ends.append("cut off")
            raise

    looks = OpenCancels(pool, lambda _: True, take)
    looks.start()
    looks.add(SimpleNamespace(id="a" * 64, request=SimpleNamespace(private=False)))
    async with asyncio.timeout(10):
        await until(lambda: pool.asked)
        looks.add(SimpleNamespace(id="b" * 64, request=SimpleNamespace(private=False)))
        await until(lambda: pool.asked >= 2)
        await asyncio.sleep(0.05)
        written.set()
        await until(lambda: ends)
    await looks.close()
    assert ends == ["cancellation"]
