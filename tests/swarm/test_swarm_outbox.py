"""Publications side by side: in their order but for what goes first, a bounded number at once."""

import asyncio
from typing import Any

from pylon.swarm.wire.outbox import Outbox, Work


async def test_what_goes_first_is_sent_before_all_that_waits_and_no_more_are_out_than_allowed() -> None:
    sent, most, out = [], 0, 0
    outbox = Outbox(limit=2)

    def publication(name: str) -> Work:
        async def publish() -> None:
            nonlocal most, out
            out += 1
            most = max(most, out)
            sent.append(name)
            await asyncio.sleep(0)
            out -= 1

        return publish()

    for name in ("a", "b", "c", "d", "e"):
        outbox.put(lambda name=name: publication(name))
    await asyncio.sleep(0)
    outbox.put(lambda: publication("cancelled"), first=True)
    await outbox.close(within=5)
    assert sent == ["a", "b", "cancelled", "c", "d", "e"]
    assert most == 2


async def test_what_cannot_be_made_or_is_not_wanted_any_more_holds_up_nobody() -> None:
    sent: list[str] = []
    outbox = Outbox(limit=1)

    async def publish() -> None:
        sent.append("a")

    def broken() -> Work:
        raise ZeroDivisionError

    for make in (broken, lambda: None, publish):
        outbox.put(make)
    await outbox.close(within=5)
    assert sent == ["a"]


async def test_no_more_publications_run_at_once_than_may_and_the_close_lets_all_of_them_out():
    outbox, running, most, done = Outbox(3), 0, 0, list[int]()

    async def publish(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done.append(number)

    for number in range(20):
        outbox.put(lambda number=number: publish(number) if number % 5 else None)
    await outbox.close(within=5.0)
    assert most == 3
    assert sorted(done) == [number for number in range(20) if number % 5]


async def test_an_outbox_without_anything_closes_at_once():
    outbox = Outbox(3)
    async with asyncio.timeout(1.0):
        await outbox.close(within=60.0)


async def test_what_cannot_be_made_is_logged_and_what_has_its_turn_with_it_goes_out_in_that_turn(monkeypatch):
    faults, logged = list[dict[str, Any]](), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    monkeypatch.setattr("pylon.swarm.wire.outbox.logger.error", lambda text, exc_info: logged.append(repr(exc_info)))
    outbox, done = Outbox(3), list[int]()

    def fail() -> None:
        raise LookupError

    async def work() -> None:
        done.append(1)

    outbox.put(fail)
    outbox.put(work)
    outbox.put(work)
    await asyncio.sleep(0)
    assert (done, logged, faults) == ([1, 1], ["LookupError()"], [])
