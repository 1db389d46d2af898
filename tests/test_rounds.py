"""Work that is done again and again until there is nothing left of it."""

import asyncio

import pytest

from pylon import rounds
from pylon.rounds import Rounds


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(rounds, "SOON_S", 0.01)
    monkeypatch.setattr(rounds, "FIRST_S", 0.02)
    monkeypatch.setattr(rounds, "LONGEST_S", 0.04)


class Work:
    def __init__(self, rounds=1):
        self.left = rounds
        self.done = 0
        self.ended = asyncio.Event()

    async def round(self):
        self.done += 1
        self.left -= 1
        if not self.left:
            self.ended.set()
        return self.left > 0


async def test_it_is_done_until_nothing_is_left_and_once_for_all_that_came_up_together():
    work = Work(rounds=4)
    made = Rounds(work.round, "work")
    for _ in range(5):
        made.begin()
    await asyncio.wait_for(work.ended.wait(), 10)
    await asyncio.sleep(0.1)
    assert work.done == 4
    work.left, work.done = 1, 0
    work.ended.clear()
    made.begin()
    await asyncio.wait_for(work.ended.wait(), 10)
    assert work.done == 1
    await made.close()


async def test_what_comes_up_during_a_round_has_one_of_its_own():
    class Adding(Work):
        async def round(self):
            if not self.done:
                made.begin()
            return await super().round()

    work = Adding()
    made = Rounds(work.round, "work")
    made.begin()
    async with asyncio.timeout(10):
        while work.done < 2:
            await asyncio.sleep(0.005)
    await made.close()


async def test_closed_it_is_done_no_more():
    work = Work(rounds=1_000)
    made = Rounds(work.round, "work")
    await made.close()
    made.begin()
    await asyncio.sleep(0.05)
    await made.close()
    done = work.done
    await asyncio.sleep(0.1)
    assert work.done == done
