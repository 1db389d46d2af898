"""What questions cost whose client went away, or of which more may be charged: the core is asked, until it knows."""

import asyncio
from contextlib import aclosing, suppress

import pytest

from pylon import rounds
from pylon.errors import UnreachableError
from pylon.gateway.chat import Chat
from pylon.gateway.problems import Problem
from pylon.gateway.upstream import Ended, Said
from tests.gateway.fakes import FakeCore, answer, cost, failure, gateway_of, listing
from tests.waiting import until

CHAT = Chat({"prompt": "q"}, stream=True)
PRICED = [listing(price=(10, 0, 0))]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(rounds, "FIRST_S", 0.02)
    monkeypatch.setattr(rounds, "LONGEST_S", 0.02)


def core_of(*says):
    return FakeCore(lambda _: says, bid=100, providers=PRICED)


def asks_of(core, tmp_path, most_msat=100):
    return gateway_of(core, tmp_path, most_msat=most_msat).asks


async def leave(asks, core):
    """A client that hangs up before the answer; the name of what was set aside."""
    asking = asyncio.create_task(asks.whole(CHAT))
    before = len(core.reserved)
    async with asyncio.timeout(10):
        while len(core.reserved) == before:
            await asyncio.sleep(0)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    return core.reserved[-1]


def books(asks):
    return asks.budget.spent, asks.budget.held, asks.budget.open


async def test_a_client_that_hangs_up_costs_what_it_cost_and_gives_back_the_rest(tmp_path):
    core = core_of(asyncio.Event())
    asks = asks_of(core, tmp_path)
    name = await leave(asks, core)
    # Until the core has a word.
    assert books(asks) == (0, 20, 0)
    core.costs[name] = cost(0, 10)
    await until(lambda: books(asks) == (0, 0, 10))
    core.costs[name] = cost(7)
    await until(lambda: books(asks) == (7, 0, 0))
    assert not len(asks._unsettled)


async def test_one_that_was_charged_nothing_gives_back_all_of_it(tmp_path):
    core = core_of(asyncio.Event())
    asks = asks_of(core, tmp_path)
    for _ in range(30):
        await leave(asks, core)
    await until(lambda: books(asks) == (0, 0, 0))


async def test_what_the_core_still_asks_for_stays_held_and_others_wait_for_it(tmp_path):
    core = core_of(asyncio.Event())
    asks = asks_of(core, tmp_path, most_msat=10)
    asking = asyncio.create_task(asks.whole(CHAT))
    async with asyncio.timeout(10):
        while not core.reserved:
            await asyncio.sleep(0)
    core.costs[core.reserved[0]] = cost(0, 10, over=False)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    core.says = lambda _: [Ended(answer(charged=7))]
    waiting = asyncio.create_task(asks.whole(CHAT))
    await asyncio.sleep(0.2)
    assert books(asks) == (0, 10, 0) and not waiting.done()
    core.costs.clear()
    await waiting
    await until(lambda: books(asks) == (7, 0, 0))


async def test_nobody_waits_for_what_may_be_charged_yet_and_whoever_is_refused_hears_of_it(tmp_path):
    core = core_of(asyncio.Event())
    asks = asks_of(core, tmp_path, most_msat=15)
    name = await leave(asks, core)
    core.costs[name] = cost(0, 10)
    await until(lambda: books(asks) == (0, 0, 10))
    with pytest.raises(Problem, match=r"only 5 of .* 10 may come back"):
        await asks.whole(CHAT)
    await asks.close()


async def test_whoever_is_refused_hears_that_nothing_is_left_where_more_was_charged_than_was_set_aside(tmp_path):
    core = core_of(Ended(answer(charged=130)))
    asks = asks_of(core, tmp_path)
    await asks.whole(CHAT)
    assert asks.budget.left == -30
    with pytest.raises(Problem, match=r"may cost 10 msat, and only 0 of"):
        await asks.whole(CHAT)
    core.seen["bid_msat"] = 0
    await asks.whole(CHAT)


async def test_a_new_question_is_asked_after_without_all_those_that_are_open(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "FIRST_S", 1_000.0)
    core = core_of(asyncio.Event())
    asks = asks_of(core, tmp_path, most_msat=1_000_000)
    names = []
    for number in range(3):
        core.costs[await leave(asks, core)] = cost(0, 10)
        names.append([core.reserved[-1]])
        await until(lambda many=number + 1: asks.budget.open == 10 * many)
    assert core.asked_after == names
    await asks.close()


async def test_a_gateway_that_closed_asks_no_more_what_questions_came_to(tmp_path):
    core = core_of(asyncio.Event())
    asks = asks_of(core, tmp_path)
    asking = asyncio.create_task(asks.whole(CHAT))
    await until(lambda: core.reserved)
    await asks.close()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert not core.asked_after and "unsettled" not in [task.get_name() for task in asyncio.all_tasks()]


async def test_a_core_that_does_not_know_it_any_more_is_no_reason_to_give_anything_back(tmp_path):
    core = core_of(asyncio.Event())
    asks = asks_of(core, tmp_path)
    core.costs[await leave(asks, core)] = None
    await until(lambda: books(asks) == (20, 0, 0))


async def test_while_nobody_is_reached_all_of_it_stays_set_aside(tmp_path):
    core = core_of(UnreachableError("the node ended during the call"))
    core.unreached = True
    asks = asks_of(core, tmp_path)
    with pytest.raises(Problem):
        await asks.whole(CHAT)
    await until(lambda: books(asks) == (0, 0, 20))
    core.costs[core.reserved[0]] = cost(3)
    core.unreached = False
    await until(lambda: books(asks) == (3, 0, 0))


@pytest.mark.parametrize("row", [answer(charged=5, most=12), failure("deadline", most=12)])
async def test_what_all_tries_can_come_to_is_set_aside_until_it_is_known(tmp_path, row):
    core = core_of(Ended(row))
    asks = asks_of(core, tmp_path)
    charged = row["charged_msat"]
    with suppress(Problem):
        await asks.whole(CHAT)
    assert books(asks) == (charged, 0, 12 - charged)
    # What was charged once is not given back, whatever is said later.
    core.costs[core.reserved[0]] = cost(0)
    await until(lambda: books(asks) == (charged, 0, 0))


async def test_a_stream_that_is_left_is_settled_too(tmp_path):
    core = core_of(Said("a"), asyncio.Event())
    asks = asks_of(core, tmp_path)
    async with aclosing(asks.run(CHAT)) as heard:
        assert await anext(heard) == Said("a")
        core.costs[core.reserved[0]] = cost(4)
    await until(lambda: books(asks) == (4, 0, 0))


async def test_what_was_asked_for_nothing_is_not_asked_after(tmp_path):
    core = core_of(Ended(answer(charged=7)))
    asks = asks_of(core, tmp_path)
    await asks.whole(CHAT)
    assert books(asks) == (7, 0, 0) and asks._unsettled._rounds._task is None
    await asks.close()
