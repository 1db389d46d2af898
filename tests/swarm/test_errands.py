import asyncio
from typing import Any

from pylon.swarm.errands import Errands
from pylon.swarm.wire.outbox import Outbox


async def test_an_errand_begins_at_once_and_is_waited_for_where_it_waits():
    errands, gate, did = Errands("failed"), asyncio.Event(), list[str]()

    async def work() -> None:
        did.append("begun")
        await gate.wait()
        did.append("done")

    errands.begin(work())
    assert did == ["begun"]
    assert len(errands.running) == 1
    gate.set()
    await errands.wait()
    assert did == ["begun", "done"]
    assert not errands.running


async def test_one_that_never_waits_is_over_when_begun_and_one_that_fails_is_told_of_too():
    ended = list[str]()
    errands = Errands("failed", lambda: ended.append("one"))

    async def nothing() -> None: ...

    async def fail() -> None:
        raise ValueError

    errands.begin(nothing())
    errands.begin(fail())
    assert ended == ["one", "one"]
    assert not errands.running


async def test_errands_that_are_cancelled_take_their_leave():
    ended = list[str]()
    errands = Errands("failed", lambda: ended.append("one"))
    errands.begin(asyncio.sleep(60.0))
    errands.cancel()
    await errands.wait()
    assert ended == ["one"]
    assert not errands.running


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
