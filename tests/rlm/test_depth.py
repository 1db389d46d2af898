"""Depth: loops inside loops, side by side, within one budget."""

import asyncio

import pytest

from pylon.clock import SystemClock
from pylon.rlm.budget import Cost, Limits
from pylon.rlm.loop_state import Reason
from pylon.rlm.root import ScriptedRoot
from pylon.rlm.settings import LoopSettings
from pylon.rlm.shared_budget import SharedBudget
from pylon.rlm.sublm import FunctionSubLM
from tests.rlm.fakes import InProcessRepl, Stage, repl
from tests.waiting import until

SPLIT = repl("""
half = len(context) // 2
if len(context) > 2:
    FINAL(''.join(rlm_query_batched([context[:half], context[half:]])))
else:
    FINAL(context.upper())
""")

BOMB = repl("FINAL(' '.join(rlm_query_batched([context + str(n) for n in range(10)])))")


def one_level(first, child):
    """What a root says that begins loops of one kind."""
    return lambda messages: child if "Your task stands" in messages[1].content else first


def barrier(count):
    """A sub-LM that answers when so many calls are there."""
    there, all_there = [], asyncio.Event()

    async def answer(prompt):
        there.append(prompt)
        if len(there) == count:
            all_there.set()
        await all_there.wait()
        return prompt

    return answer


async def test_three_levels_of_loops_put_their_answers_together(tmp_path):
    stage = Stage(tmp_path, [SPLIT], settings=LoopSettings(children=4))
    outcome = await stage.run(context="abcdefghijklmnop", limits=Limits(depth=3))
    assert outcome.answer == "ABCDEFGHIJKLMNOP" and not outcome.partial
    depths = [event["depth"] for event in stage.events("loop")]
    assert [depths.count(depth) for depth in range(4)] == [1, 2, 4, 8]
    assert stage.events("final")[0]["spent"]["calls"] == 14


async def test_below_the_last_depth_a_loop_is_a_plain_call(tmp_path):
    stage = Stage(tmp_path, [repl("FINAL(rlm_query('deeper'))")])
    assert (await stage.run(limits=Limits(depth=0))).answer == "<deeper>"
    assert "rlm_query_batched" not in stage.root.chats[0][0].content


async def test_a_recursion_bomb_is_stopped_by_depth_and_calls(tmp_path):
    InProcessRepl.opened = 0
    stage = Stage(tmp_path, [BOMB], settings=LoopSettings(children=4))
    outcome = await stage.run(limits=Limits(depth=30, calls=60))
    assert outcome.partial
    assert stage.events("final")[0]["spent"]["calls"] == 60
    assert InProcessRepl.opened <= 61


async def test_children_run_side_by_side(tmp_path):
    turns = one_level(repl("FINAL(rlm_query_batched(list('abcdef')))"), repl("FINAL(llm_query(context))"))
    stage = Stage(tmp_path, turns, barrier(6), settings=LoopSettings(children=6))
    outcome = await stage.run(limits=Limits(depth=1))
    assert outcome.answer == str(list("abcdef"))


async def test_a_child_that_finds_nothing_is_a_typed_failure_and_its_siblings_stand(tmp_path):
    class Root(ScriptedRoot):
        async def reply(self, messages, **loop):
            if "1 characters" in messages[1].content:
                from pylon.rlm.root import RootError

                raise RootError("gone")
            return await super().reply(messages)

    turns = one_level(repl("a = rlm_query_batched(['x', 'yy'])\nFINAL(a[0].code + a[1])"), repl("FINAL(context)"))
    outcome = await Stage(tmp_path, Root(turns)).run(limits=Limits(depth=1))
    assert outcome.answer == "no_answeryy"


async def test_a_run_that_is_cancelled_ends_when_all_of_its_loops_have(tmp_path):
    opened, closed = [], []

    class SlowToClose(InProcessRepl):
        async def open(self, context, limits, on_calls):
            self._tasks = []
            opened.append(self)

            async def kept(calls):
                self._tasks.append(asyncio.current_task())
                return await on_calls(calls)

            await super().open(context, limits, kept)

        async def close(self):
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            # Each by as much longer as it was begun later.
            await asyncio.sleep(0.02 * opened.index(self))
            closed.append(self)

    turns = one_level(repl("FINAL(rlm_query_batched(list('abc')))"), repl("FINAL(llm_query(context))"))
    stage = Stage(tmp_path, turns, lambda _: asyncio.sleep(600), open_repl=SlowToClose)
    run = asyncio.create_task(stage.run(limits=Limits(depth=1)))
    await until(lambda: len(stage.events("submitted")) >= 6)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert run.cancelled() and len(closed) == 4


async def test_runs_with_one_purse_spend_from_it_together_and_go_as_deep_as_alone(tmp_path):
    limits = Limits(calls=4, depth=1)
    shared_budget = SharedBudget(limits, SystemClock())
    root = one_level(repl("FINAL(rlm_query(context))"), repl("FINAL(llm_query('x'))"))
    stages = [Stage(tmp_path / str(number), root, shared_budget=shared_budget) for number in range(3)]
    outcomes = await asyncio.gather(*(stage.run(limits=limits) for stage in stages))
    assert 0 < sum(outcome.partial for outcome in outcomes) < 3
    assert shared_budget.budget.spent.calls == 4 and shared_budget.budget.reserved.calls == 0
    assert [event["depth"] for event in stages[0].events("loop")] == [0, 1]
    spent = [stage.events("final")[0]["spent"]["calls"] for stage in stages]
    assert sorted(spent) in ([0, 2, 2], [1, 1, 2])


async def test_a_run_waits_for_what_another_of_its_purse_sets_aside_and_gives_back(tmp_path):
    limits = Limits(msat=1_000)
    shared_budget = SharedBudget(limits, SystemClock())
    taken = shared_budget.budget.reserve(Cost(msat=1_000), now=0.0)
    sub = FunctionSubLM(lambda prompt: prompt, most_msat=1_000)
    stage = Stage(tmp_path, [repl("FINAL(llm_query('x'))")], sub, shared_budget=shared_budget)
    asked = asyncio.create_task(stage.run(limits=limits))
    await asyncio.sleep(0.2)
    assert not asked.done()
    shared_budget.gate.settle(shared_budget.budget, taken, Cost())
    assert (await asked).answer == "x"


@pytest.mark.parametrize(
    ("limits", "bound"),
    [(Limits(tokens=5_000), "tokens"), (Limits(wall_s=0.0), "time"), (Limits(msat=10), "max_sats")],
)
async def test_a_run_for_which_others_have_left_nothing_starts_no_sandbox(tmp_path, limits, bound):
    shared_budget = SharedBudget(limits, SystemClock())
    shared_budget.budget.book(Cost(msat=10, tokens=2_000))
    root = ScriptedRoot(["FINAL(1)"])
    root.most_msat = 1
    stage = Stage(tmp_path, root, shared_budget=shared_budget, open_repl=lambda: pytest.fail("a sandbox was started"))
    outcome = await stage.run()
    assert (outcome.answer, outcome.partial, outcome.reason) == (None, True, Reason.BUDGET)
    assert bound in outcome.detail and stage.events("final")[0]["detail"] == outcome.detail
    assert (shared_budget.budget.reserved, root.chats) == (Cost(), [])


async def test_turns_of_the_root_are_bounded_in_all_loops_together_and_a_last_one_is_kept(tmp_path):
    child = [repl("x = 1"), repl("x = 2"), repl("FINAL(x)")]

    def root(messages):
        if "Your task stands" in messages[1].content:
            return child[sum(message.role == "assistant" for message in messages)]
        if "last turn" in messages[-1].content:
            return "so far"
        return repl(
            "got = [rlm_query(f'task {n}') for n in range(10)]\nprint([getattr(one, 'code', '') for one in got])"
        )

    stage = Stage(tmp_path, root)
    outcome = await stage.run(limits=Limits(depth=1, turns=12))
    assert (outcome.answer, outcome.partial, outcome.reason) == ("so far", True, Reason.BUDGET)
    assert "rlm.max_root_turns" in outcome.hint
    assert len(stage.root.chats) <= 12
    assert stage.events("final")[0]["spent"]["turns"] == len(stage.events("turn")) <= 12
    codes = stage.text(stage.events("cell")[-1]["stdout"])
    assert codes.count("budget_root_turns") >= 5 and "''" in codes
    assert len(stage.events("loop")) <= 5
