"""Tasks with an owner: held, told of when they fail, and over when the owner is closed."""

import asyncio
import gc
import logging

import pytest

from pylon.errors import RelayError
from pylon.tasks import Tasks, end


@pytest.fixture
def told(caplog):
    """What the log says of tasks: the task's name, its error, and whether its traceback goes along."""
    logging.getLogger("pylon").propagate = True
    return lambda: [
        (record.getMessage(), record.values["task"], record.values["error"], bool(record.exc_info))
        for record in caplog.records
    ]


async def fail() -> None:
    raise ValueError("why")


async def never() -> None:
    await asyncio.Event().wait()


async def fail_when_cancelled() -> None:
    try:
        await never()
    finally:
        raise ValueError("why")


async def test_a_task_that_fails_is_told_of_at_once_and_leaves_the_others_alone(told):
    tasks = Tasks()
    tasks.start(fail(), "first")
    other = tasks.start(never(), "second")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told() == [("a task failed", "first", "ValueError('why')", True)]
    assert len(tasks) == 1 and not other.done()
    await tasks.close()
    assert other.cancelled() and len(tasks) == 0
    assert len(told()) == 1


async def test_a_task_that_nobody_else_holds_is_not_collected():
    tasks, reached = Tasks(), list[int]()

    async def wait() -> None:
        # Nothing but the task itself knows what it waits for.
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            reached.append(1)

    tasks.start(wait(), "held")
    await asyncio.sleep(0)
    gc.collect()
    assert len(tasks) == 1 and not reached
    await tasks.close()
    assert reached == [1]


async def test_one_that_begins_at_once_runs_up_to_where_it_waits():
    tasks, gate, did = Tasks(), asyncio.Event(), list[str]()

    async def work() -> None:
        did.append("begun")
        await gate.wait()
        did.append("done")

    tasks.begin(work(), "work")
    assert did == ["begun"] and len(tasks) == 1
    gate.set()
    await tasks.wait()
    assert did == ["begun", "done"] and len(tasks) == 0


async def test_one_that_never_waits_is_over_when_begun_and_one_that_fails_is_told_of_too(told):
    ended = list[str]()
    tasks = Tasks("a publication failed", lambda: ended.append("one"))

    async def nothing() -> None: ...

    tasks.begin(nothing(), "nothing")
    tasks.begin(fail(), "fails")
    assert ended == ["one", "one"] and len(tasks) == 0
    assert told() == [("a publication failed", "fails", "ValueError('why')", True)]


async def test_closing_takes_one_that_has_not_run_yet_and_those_that_end_by_beginning_another():
    tasks, ended = Tasks(ended=lambda: ended.append("one")), list[str]()

    async def hand_on() -> None:
        try:
            await never()
        finally:
            tasks.begin(never(), "another")

    tasks.begin(hand_on(), "first")
    unborn = tasks.start(never(), "unborn")
    await tasks.close()
    assert ended == ["one", "one"] and unborn.cancelled() and len(tasks) == 0


async def test_closing_takes_one_that_is_done_and_has_not_taken_its_leave():
    tasks, begun = Tasks(), asyncio.Event()

    async def work() -> None:
        begun.set()

    tasks.start(work(), "work")
    await begun.wait()
    assert len(tasks) == 1
    await tasks.close()
    assert len(tasks) == 0


async def test_ended_tasks_are_over_and_what_they_had_failed_with_is_told(told):
    failed, waits, fails = (
        asyncio.create_task(work, name=name)
        for work, name in ((fail(), "had failed"), (never(), "waits"), (fail_when_cancelled(), "fails late"))
    )
    await asyncio.sleep(0)
    await end(failed, None, waits, fails)
    assert waits.cancelled() and fails.done()
    assert [name for _, name, _, _ in told()] == ["had failed", "fails late"]


async def test_what_is_expected_of_a_task_is_not_told_and_an_error_of_ours_has_no_traceback(told):
    async def refuse() -> None:
        raise RelayError("no")

    works = (fail(), refuse())
    tasks = [asyncio.create_task(work, name="work") for work in works]
    await asyncio.sleep(0)
    await end(*tasks, expected=(ValueError,))
    assert told() == [("a task failed", "work", "RelayError('no')", False)]


@pytest.mark.parametrize("way", ["end", "close"])
async def test_whoever_is_cancelled_while_it_ends_tasks_leaves_none_behind_and_is_cancelled(way, told):
    """`suppress(CancelledError)` around `await task` would swallow that."""
    closing, tasks = asyncio.Event(), Tasks()

    async def slow() -> None:
        try:
            await never()
        finally:
            closing.set()
            try:
                await never()
            finally:
                await asyncio.sleep(0)

    task = tasks.start(slow(), "slow")
    await asyncio.sleep(0)
    ending = asyncio.create_task(end(task) if way == "end" else tasks.close())
    await closing.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert task.done() and not told()
