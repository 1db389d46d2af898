"""Whoever waits hears of it in time, and whose deadline passes in the queue is let go."""

import asyncio
from types import SimpleNamespace

import pytest

from pylon.provider.customers import Standing
from pylon.provider.queue import JobQueue
from pylon.provider.work import overdue
from pylon.provider.work.overdue import TICK_S, Overdue
from tests.manual_clock import ManualClock
from tests.waiting import until

AFTER_S = 2.5


class Desk:
    """What is due of jobs, with a real queue; the replies are a stand-in that notes what is said."""

    def __init__(self) -> None:
        self.clock, self.queue = ManualClock(), JobQueue()
        self.told: list[tuple[str, float]] = []
        self.expired: list[str] = []
        self.waits_s = 0.0
        self.overdue = Overdue(
            queue=self.queue,
            replies=self,
            clock=self.clock,
            after_s=AFTER_S,
            wait_s=lambda _: self.waits_s,
            expire=self.expire,
        )

    def processing(self, request, relay, wait_s) -> None:
        self.told.append((request.id, wait_s))

    async def expire(self, job) -> None:
        self.expired.append(job.id)

    def comes(self, id_: str, *, waits_s: float = 0.0, lasts: float = 100.0, queued: bool = True):
        now = self.clock.wall()
        request = SimpleNamespace(id=id_, customer="alice")
        terms = SimpleNamespace(expires_at=now + lasts)
        job = SimpleNamespace(
            id=id_, request=request, relay="ws://r", terms=terms, received_at=now, trusted=False,
            standing=Standing.STRANGER,
        )  # fmt: skip
        if queued:
            self.queue.push(job)
        self.waits_s = waits_s
        self.overdue.add(job)
        self.overdue.queued(job)
        return job


@pytest.fixture
async def desk():
    desk = Desk()
    yield desk
    await desk.overdue.close()


async def test_whoever_will_wait_long_hears_at_once_for_how_long_and_no_second_time(desk):
    desk.comes("short", waits_s=AFTER_S - 0.1)
    desk.comes("long", waits_s=AFTER_S)
    assert desk.told == [("long", AFTER_S)]
    desk.clock.advance(AFTER_S)
    desk.overdue.look()
    assert [id_ for id_, _ in desk.told] == ["long", "short"]
    desk.overdue.look()
    assert len(desk.told) == 2


@pytest.mark.parametrize("seconds", [-10_800, 10_800])
async def test_a_word_is_due_after_the_same_time_though_the_clock_is_set_meanwhile(desk, seconds):
    desk.comes("one", queued=False, lasts=100_000)
    desk.clock.set_by(seconds)
    assert desk.overdue._next_tick() <= AFTER_S
    desk.overdue.look()
    assert desk.told == []
    desk.clock.advance(AFTER_S)
    desk.overdue.look()
    assert [id_ for id_, _ in desk.told] == ["one"]


async def test_whoever_has_heard_something_else_is_told_nothing(desk):
    desk.comes("one")
    desk.overdue.heard("one")
    desk.clock.advance(AFTER_S)
    desk.overdue.look()
    assert desk.told == []


async def test_what_waits_in_the_queue_beyond_its_deadline_is_let_go(desk):
    desk.comes("late", lasts=1.0)
    desk.comes("early", lasts=2.0)
    desk.clock.advance(1.0)
    desk.overdue.look()
    await asyncio.sleep(0)
    assert desk.expired == ["late"] and len(desk.queue) == 1


async def test_it_looks_by_itself_as_long_as_something_waits(desk, monkeypatch):
    monkeypatch.setattr(overdue, "TICK_S", 0.005)
    desk.comes("late", lasts=1.0)
    desk.clock.advance(AFTER_S)
    await until(lambda: desk.expired and desk.told)
    assert (desk.expired, desk.told) == (["late"], [("late", 0.0)])
    # An idle node sleeps.
    await until(lambda: desk.overdue._timer is None)


async def test_for_what_runs_it_looks_when_the_first_word_is_due_and_for_what_waits_sooner(desk):
    loop = asyncio.get_running_loop()
    desk.comes("runs", queued=False)
    first = desk.overdue._timer
    assert first.when() - loop.time() > AFTER_S - TICK_S
    desk.comes("waits")
    assert first.cancelled() and desk.overdue._timer.when() - loop.time() <= TICK_S


async def test_who_closes_it_ends_the_looks_and_what_they_began(desk):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def takes_for_ever(job) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    desk.overdue._expire = takes_for_ever
    desk.comes("late", lasts=1.0)
    desk.clock.advance(1.0)
    desk.overdue.look()
    await begun.wait()
    async with asyncio.timeout(10):
        await desk.overdue.close()
    assert desk.overdue._timer.cancelled() and ended.is_set()
