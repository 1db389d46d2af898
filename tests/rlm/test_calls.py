"""Sub-calls: typed failures in their slots, budgets exact to the msat, equal prompts asked once."""

import asyncio
import errno
import os
import random
from dataclasses import replace

import pytest

from pylon.clock import SystemClock
from pylon.node.rlm.parts import loop_settings
from pylon.rlm import trajectory
from pylon.rlm.batch import Caller
from pylon.rlm.budget import Budget, Cost, Limits
from pylon.rlm.calls import SubCallRunner
from pylon.rlm.charges import ExtraCharge
from pylon.rlm.gate import Gate
from pylon.rlm.loop_state import Reason
from pylon.rlm.progress import Tally
from pylon.rlm.root import RootError, ScriptedRoot
from pylon.rlm.roots import SwarmRoot
from pylon.rlm.runs import Run, summary
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import FunctionSubLM, SubFailure
from pylon.rlm.trajectory import Trajectory, TrajectoryError
from pylon.sections import RlmSection
from tests.manual_clock import ManualClock
from tests.rlm.fakes import Stage, repl
from tests.waiting import until

BATCH = """
answers = llm_query_batched([f'p{n}' for n in range(%d)])
bad = [a.code for a in answers if isinstance(a, SubCallError)]
FINAL(f"{len(answers)} {sorted(set(bad))} {len(bad)}")
"""


async def test_a_failed_sub_call_is_typed_in_its_slot_and_the_others_stand(tmp_path):
    def answer(prompt):
        return SubFailure("deadline", "no answer arrived in time") if prompt == "p3" else prompt.upper()

    stage = Stage(tmp_path, [repl(BATCH % 6)], answer)
    assert (await stage.run()).answer == "6 ['deadline'] 1"
    returned = {event["call"]: event for event in stage.events("returned")}
    assert returned["0/c1.3"]["code"] == "deadline" and "code" not in returned["0/c1.4"]
    assert stage.text(returned["0/c1.4"]["text"]) == "P4"


async def test_calls_over_the_budget_are_refused_in_their_slots_and_the_answer_is_partial(tmp_path):
    stage = Stage(tmp_path, [repl(BATCH % 10)])
    outcome = await stage.run(limits=Limits(calls=4))
    assert outcome.answer == "10 ['budget_calls'] 6"
    assert outcome.partial and outcome.reason is Reason.FINAL and "calls" in outcome.detail
    assert len(stage.events("submitted")) == 4


async def test_sats_reserved_at_the_most_are_used_to_the_last_at_the_true_price(tmp_path):
    sub = FunctionSubLM(lambda prompt: "yes", msat=700, most_msat=5_000)
    stage = Stage(tmp_path, [repl(BATCH % 40)], sub)
    outcome = await stage.run(limits=Limits(msat=20_000))
    # A call is let through while 5,000 are left: 22 at 700 leave 4,600.
    assert outcome.answer == "40 ['budget_sats'] 18"
    assert stage.events("final")[0]["spent"]["msat"] == 22 * 700


async def test_the_budget_is_exact_after_any_mix_of_outcomes(tmp_path):
    rng = random.Random(5)

    async def answer(prompt):
        await asyncio.sleep(rng.random() / 50)
        return SubFailure("exhausted", "no") if rng.random() < 0.3 else prompt

    sub = FunctionSubLM(answer, msat=331, most_msat=900)
    stage = Stage(tmp_path, [repl(BATCH % 300)], sub)
    await stage.run(limits=Limits(msat=40_000, calls=250))
    paid = sum(event.get("msat", 0) for event in stage.events("returned"))
    spent = stage.events("final")[0]["spent"]
    assert spent["msat"] == paid <= 40_000
    assert spent["calls"] == len(stage.events("submitted")) <= 250
    assert len(stage.events("returned")) == 300


async def test_equal_prompts_are_asked_once_at_temperature_zero_only(tmp_path):
    code = "a = llm_query_batched(['same'] * 5)\nb = llm_query('same')\nFINAL(len(a))"
    cold, warm = Stage(tmp_path / "a", [repl(code)]), None
    await cold.run()
    assert len(cold.sub.jobs) == 1 and len(cold.events("repeated")) == 5
    warm = Stage(tmp_path / "b", [repl(code)], sub_settings=SubSettings(temperature=0.7))
    await warm.run()
    assert len(warm.sub.jobs) == 6


async def test_a_failure_is_not_remembered(tmp_path):
    tries = []

    def answer(prompt):
        tries.append(prompt)
        return SubFailure("deadline", "late") if len(tries) == 1 else "now"

    stage = Stage(tmp_path, [repl("a = llm_query('x')\nFINAL(llm_query('x'))")], answer)
    assert (await stage.run()).answer == "now"


async def test_calls_of_one_cell_go_out_together(tmp_path):
    # None is answered before all are out.
    all_out = asyncio.Barrier(200)

    async def answer(prompt):
        await all_out.wait()
        return prompt

    stage = Stage(tmp_path, [repl(BATCH % 200)], answer)
    assert (await stage.run()).answer == "200 [] 0"


async def test_when_time_is_up_open_calls_fail_and_the_root_still_has_its_last_turn(tmp_path):
    # Until the call is out, no time passes.
    clock = ManualClock()

    def turns(messages):
        return "nothing came" if "last turn" in messages[-1].content else repl("print(llm_query('x'))")

    async def answer(prompt):
        clock.advance(0.6)
        await asyncio.Event().wait()

    stage = Stage(tmp_path, turns, answer, settings=LoopSettings(last_s=5), clock=clock)
    outcome = await stage.run(limits=Limits(wall_s=0.6))
    assert (outcome.answer, outcome.partial, outcome.reason) == ("nothing came", True, Reason.BUDGET)
    assert stage.events("returned")[0]["code"] == "budget_wall_time"
    assert stage.events("final")[0]["hint"] == "To raise the budget: --seconds (rlm.max_wall_s)."


async def test_a_run_of_a_few_seconds_has_its_turns(tmp_path):
    stage = Stage(tmp_path, [repl("x = 1"), repl("FINAL(str(x))")], settings=LoopSettings(last_s=30))
    outcome = await stage.run(limits=Limits(wall_s=20))
    assert (outcome.answer, outcome.partial, outcome.turns) == ("1", False, 2)


async def test_tokens_run_out_for_root_and_calls_alike_and_the_last_turn_is_kept_free(tmp_path):
    def turns(messages):
        return "as far as I came" if "last turn" in messages[-1].content else repl(f"print({len(messages)})")

    root_limit = Limits(tokens=60_000)
    stage = Stage(tmp_path, turns, settings=LoopSettings(turns=1_000))
    outcome = await stage.run(limits=root_limit)
    assert (outcome.answer, outcome.reason) == ("as far as I came", Reason.BUDGET)
    assert 30_000 < stage.events("final")[0]["spent"]["tokens"] <= 60_000
    assert outcome.hint == "To raise the budget: --tokens (rlm.max_tokens)."


async def test_a_prompt_over_the_size_limit_fails_alone_and_leaves_no_mark_on_the_answer(tmp_path):
    stage = Stage(tmp_path, [repl("a = llm_query_batched(['x' * 50, 'y'])\nFINAL(a[0].code + a[1])")])
    outcome = await stage.run(limits=Limits(prompt_chars=20))
    assert outcome.answer == "budget_prompt_size<y>" and not outcome.partial


@pytest.mark.parametrize(
    ("limits", "event_bytes", "ask", "code"),
    [
        (Limits(prompt_chars=900_000), None, "llm_query", "budget_prompt_size"),
        (Limits(), 60_000, "llm_query", "too_large"),
        (Limits(calls=0), None, "llm_query", "budget_calls"),
        (Limits(calls=0, depth=1), None, "rlm_query", "budget_calls"),
    ],
)
async def test_a_prompt_that_is_never_sent_takes_neither_memory_nor_disk(tmp_path, limits, event_bytes, ask, code):
    cell = f"for n in range(10):\n    a = {ask}(hex(n) + ''.join(map(str, range(200_000))))"
    stage = Stage(tmp_path, [repl(cell), repl("FINAL(a.code)")], sub_settings=SubSettings(event_bytes=event_bytes))
    assert (await stage.run(limits=limits)).answer == code
    assert sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file()) < 100_000
    assert [event["prompt"]["chars"] > 1_000_000 for event in stage.events("returned")] == [True] * 10
    assert not stage.rlm._sub_calls._memo


@pytest.mark.parametrize("ask", ["llm_query_batched", "rlm_query_batched"])
async def test_a_run_whose_trajectory_is_full_asks_no_more_and_ends_with_what_it_has(tmp_path, ask):
    def turns(messages):
        return "as far as I came" if "last turn" in messages[-1].content else turn

    cell = f"a = {ask}([f'{{n:06}}' * 3_000 for n in range(100)])\nprint(a[0][:2], [one.code for one in a[50:]][:1])"
    turn = (
        repl(cell)
        if ask[0] == "l"
        else repl(f"if len(context) > 100:\n  FINAL('yes')\nelse:\n  {cell.replace(chr(10), chr(10) + '  ')}")
    )
    stage = Stage(tmp_path, turns, lambda prompt: "yes")
    outcome = await stage.run(limits=Limits(depth=1, disk_bytes=400_000))
    assert (outcome.answer, outcome.reason, outcome.partial) == ("as far as I came", Reason.BUDGET, True)
    assert "full" in outcome.detail and "rlm.keep_run_mb" in outcome.hint and outcome.turns == 2
    codes = [event["code"] for event in stage.events("returned") if "code" in event]
    assert 75 < len(codes) < 100 and {*codes} == {"budget_disk"}
    prompts = sum(
        path.stat().st_size for path in (tmp_path / "run" / "blobs").iterdir() if path.stat().st_size > 17_000
    )
    assert prompts <= 400_000


async def test_a_prompt_that_was_answered_is_known_by_its_hash_alone(tmp_path):
    stage = Stage(tmp_path, [repl("a = llm_query_batched(['x', 'y', 'x'])\nFINAL(a[2])")])
    await stage.run()
    assert [call.job.prompt for call in stage.rlm._sub_calls._memo.values()] == ["", ""]
    assert [event["call"] for event in stage.events("repeated")] == ["0/c1.2"]


async def test_a_gate_never_lets_a_waiting_call_starve(tmp_path):
    """Reservations for last turns are no room that a call may wait for."""
    sub = FunctionSubLM(lambda prompt: "yes", msat=10, most_msat=10)
    stage = Stage(tmp_path, [repl("FINAL(llm_query('x'))")], sub)
    stage.root.most_msat = 95
    outcome = await stage.run(limits=Limits(msat=190))
    assert (outcome.answer, outcome.partial) == ("yes", False)
    again = Stage(tmp_path / "b", [repl("FINAL(llm_query('x'))"), "nothing"], sub)
    again.root.most_msat = 95
    outcome = await again.run(limits=Limits(msat=100))
    assert (outcome.reason, outcome.partial) == (Reason.BUDGET, True)


@pytest.mark.parametrize("most", [2, 5_000, 1_000_000])
def test_a_cells_own_limit_leaves_it_to_the_budget_to_refuse(most):
    assert loop_settings(RlmSection(max_calls=most), "rlm").cell.calls > most


async def test_a_call_that_comes_after_its_cell_was_ended_is_still_booked(tmp_path):
    late = asyncio.Event()

    async def answer(prompt):
        await late.wait()
        return prompt

    sub = FunctionSubLM(answer, msat=331, most_msat=900)
    clock = SystemClock()
    budget = Budget(Limits(msat=2_000), now=clock.monotonic())
    room = SubCallRunner(sub, SubSettings(), Gate(clock), Trajectory(tmp_path / "run", clock), clock)
    asking = asyncio.create_task(room.ask(Caller("0", budget, 1), ["a", "b", "c"], ["x", "y", "z"], None))
    await until(lambda: len(sub.jobs) >= 2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    # Their price, and half of what was left, for what they may cost beside it.
    assert (budget.spent.msat, budget.reserved.msat) == (0, 1_900)
    late.set()
    await until(lambda: not budget.reserved.calls)
    # The third waited for room in the budget, and never went out.
    assert (budget.spent.msat, budget.spent.calls, len(sub.jobs)) == (662, 2, 2)
    await room.close()


async def test_a_cell_that_is_ended_does_not_take_the_equal_prompt_of_another_loop_with_it(tmp_path):
    clock = SystemClock()
    now, gate = clock.monotonic(), Gate(clock)
    budget = Budget(Limits(tokens=700, depth=1), now=now)
    sub = FunctionSubLM(lambda prompt: "answer")
    room = SubCallRunner(sub, SubSettings(), gate, Trajectory(tmp_path / "run", clock), clock)
    held = budget.reserve(Cost(tokens=600), now=now)  # until it is back, calls wait
    names = ("0/c1.0", "0/c2.0")
    asking = [
        asyncio.create_task(room.ask(Caller(name, budget.child(now=now), 1), [name], ["the same"], None))
        for name in names
    ]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    gate.settle(budget, held, Cost())
    assert [one.text for one in await asyncio.wait_for(asking[1], 20)] == ["answer"]


async def test_an_equal_prompt_that_nobody_waits_for_any_more_is_not_sent(tmp_path):
    clock = SystemClock()
    now, gate = clock.monotonic(), Gate(clock)
    budget = Budget(Limits(tokens=700), now=now)
    sub = FunctionSubLM(lambda prompt: "answer")
    room = SubCallRunner(sub, SubSettings(), gate, Trajectory(tmp_path / "run", clock), clock)
    held = budget.reserve(Cost(tokens=600), now=now)
    asking = [
        asyncio.create_task(room.ask(Caller("0", budget, 1), [name], ["the same"], None)) for name in ("a", "b")
    ]
    await asyncio.sleep(0)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    gate.settle(budget, held, Cost())
    await asyncio.sleep(0.05)
    assert not sub.jobs and not budget.reserved.calls


class Charging(FunctionSubLM):
    """Every job costs so many msat beside its answer, or as much as its batch still may."""

    def __init__(self, beside_msat, **options):
        super().__init__(lambda prompt: SubFailure("late", "no") if prompt == "p3" else prompt, **options)
        self.beside_msat = beside_msat
        self.budgets = []
        self.charged = 0

    async def ask(self, jobs, *, budget_msat=None):
        self.budgets.append(budget_msat)
        left = budget_msat
        async for place, outcome in super().ask(jobs):
            price = getattr(outcome, "msat", 0)
            beside = self.beside_msat if left is None else min(self.beside_msat, left - price)
            left = None if left is None else left - price - beside
            self.charged += price + beside
            if beside:
                yield ExtraCharge(beside)
            yield place, outcome


@pytest.mark.parametrize(("beside", "sats"), [(0, 40), (200, 40), (5_000, 40), (10**9, 40), (5_000, 1_000)])
async def test_sats_bound_all_that_is_charged_and_the_books_hold_it(tmp_path, beside, sats):
    sub = Charging(beside, msat=700, most_msat=900)
    code = "def one(n):\n    return llm_query(f'p{n}')\n" + BATCH % 30
    threads = "import threading\nts = [threading.Thread(target=llm_query, args=(f't{n}',)) for n in range(6)]\n"
    stage = Stage(tmp_path, [repl(f"{threads}[t.start() for t in ts]\n{code}")], sub)
    await stage.run(limits=Limits(msat=sats * 1_000))
    assert 0 < sub.charged <= sats * 1_000
    tally = Tally()
    for event in stage.events():
        tally.add(event)
    assert stage.events("final")[0]["spent"]["msat"] == tally.msat == sub.charged


async def test_a_call_alone_may_be_asked_again_elsewhere_within_its_budget(tmp_path):
    sub = Charging(0, msat=700, most_msat=900)
    await Stage(tmp_path / "a", [repl("FINAL(llm_query('x'))")], sub).run(limits=Limits(msat=100_000))
    await Stage(tmp_path / "b", [repl("FINAL(llm_query('x'))")], sub).run()
    assert sub.budgets == [4 * 900, None]


async def test_what_one_call_left_is_nobody_elses_before_all_that_went_out_with_it_are_back(tmp_path):
    late = asyncio.Event()

    async def answer(prompt):
        if prompt == "late":
            await late.wait()
        return prompt

    clock = SystemClock()
    budget = Budget(Limits(msat=10_000), now=clock.monotonic())
    sub = FunctionSubLM(answer, msat=1, most_msat=1_000)
    room = SubCallRunner(sub, SubSettings(), Gate(clock), Trajectory(tmp_path / "run", clock), clock)
    asking = asyncio.create_task(room.ask(Caller("0", budget, 1), ["a", "b"], ["early", "late"], None))
    await until(lambda: [event for event in Run(tmp_path / "run").events() if event["type"] == "returned"])
    # The two prices, and half of the rest: all of that may yet be charged for the one that is out.
    assert budget.left(now=clock.monotonic()).msat == 10_000 - 2_000 - 4_000
    late.set()
    await asking
    assert budget.left(now=clock.monotonic()).msat == 9_998 and not budget.reserved.msat
    await room.close()


async def test_a_roots_turn_that_failed_and_was_charged_is_booked(tmp_path):
    class Failing(ScriptedRoot):
        async def reply(self, messages, *, loop="", charged):
            if len(messages) == 2:
                return await super().reply(messages)
            charged(ExtraCharge(500))
            raise RootError("no answer arrived in time", lasting=False)

    stage = Stage(tmp_path, Failing([repl("x = 1")]))
    assert (await stage.run()).reason is Reason.ROOT_FAILED
    # The turn, and the last one.
    assert stage.events("final")[0]["spent"]["msat"] == 1_000
    assert [event["msat"] for event in stage.events("charged")] == [500, 500]


async def test_what_is_known_to_be_charged_is_booked_though_the_roots_turn_takes_too_long(tmp_path):
    class Slow(FunctionSubLM):
        async def ask(self, jobs, **bounds):
            yield ExtraCharge(7_000)
            await asyncio.Event().wait()

    root = SwarmRoot(Slow(str.upper, most_msat=10_000), "m", 4_096)
    stage = Stage(tmp_path, root, settings=LoopSettings(root_timeout_s=0.3, last_s=0.3))
    assert (await stage.run(limits=Limits(msat=100_000))).reason is Reason.ROOT_SILENT
    assert [event["msat"] for event in stage.events("charged")] == [7_000]
    assert stage.events("final")[0]["spent"]["msat"] == 7_000


async def test_what_calls_of_several_loops_may_cost_at_once_is_never_more_than_there_is(tmp_path):
    clock = SystemClock()
    now = clock.monotonic()
    budget = Budget(Limits(msat=10_000, depth=1), now=now)
    sub = Charging(10**9, msat=700, most_msat=900)
    room = SubCallRunner(sub, SubSettings(), Gate(clock), Trajectory(tmp_path / "run", clock), clock)
    callers = [Caller(f"0/c{n}.0", budget.child(now=now), 1) for n in range(30)]
    await asyncio.gather(*(room.ask(one, [one.loop], [f"p{one.loop}"], None) for one in callers))
    # All of those that went out at once, before anything was booked.
    assert len(sub.budgets) > 2 and sum(sub.budgets) <= 10_000
    assert budget.spent.msat == sub.charged <= 10_000


async def test_counts_tell_what_was_sent_from_what_was_refused_and_repeated(tmp_path):
    def answer(prompt):
        return SubFailure("deadline", "late") if prompt == "p0" else prompt

    code = "a = llm_query_batched([f'p{n}' for n in range(10)] + ['p1'] * 3)\nFINAL('done')"
    stage = Stage(tmp_path, [repl(code)], answer)
    await stage.run(limits=Limits(calls=4))
    tally = Tally()
    for event in stage.events():
        tally.add(event)
    counts = tally.counts
    assert (counts["asked"], counts["calls"], counts["refused"], counts["repeated"]) == (13, 4, 6, 3)
    assert (counts["failed"], counts["failures"]) == (1, {"budget_calls": 6, "deadline": 1})
    assert counts["calls"] == stage.events("final")[0]["spent"]["calls"]
    assert len(stage.sub.jobs) == 4
    assert tally.line("play sat") == "turn 1, 0 in flight, 4 sub-calls back (1 failed), 0 play sat"
    assert Tally(back=1).line("play sat") == "turn 0, 0 in flight, 1 sub-call back, 0 play sat"


async def test_an_answer_that_was_cut_off_is_told_from_a_whole_one(tmp_path):
    class Cutting(FunctionSubLM):
        async def ask(self, jobs, **bounds):
            async for place, outcome in super().ask(jobs, **bounds):
                finish = "length" if jobs[place].prompt == "long" else "stop"
                yield place, replace(outcome, finish=finish, sha256="ab" * 32)

    stage = Stage(tmp_path, [repl("a = llm_query_batched(['long', 'short'])\nFINAL(a[0])")], Cutting(str.upper))
    await stage.run()
    returned = {event["call"]: event for event in stage.events("returned")}
    assert (returned["0/c1.0"]["finish"], returned["0/c1.1"]["finish"]) == ("length", "stop")
    assert returned["0/c1.0"]["sha256"] == "ab" * 32
    assert summary(Run(tmp_path / "run"))["truncated"] == 1


async def test_each_call_of_a_seeded_run_has_a_seed_of_its_own_and_the_same_one_again(tmp_path):
    code = "a = llm_query_batched(['same'] * 3)\nb = llm_query('same')\nFINAL('done')"
    seeds = []
    for number, seed in enumerate((7, 7, 8, None)):
        stage = Stage(tmp_path / str(number), [repl(code)], sub_settings=SubSettings(temperature=0.7, seed=seed))
        await stage.run()
        seeds.append([job.seed for job in stage.sub.jobs])
        assert [event.get("seed") for event in stage.events("submitted")] == seeds[-1]
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 4 and not set(seeds[0]) & set(seeds[2])
    assert all(0 <= seed < 2**31 for seed in seeds[0]) and seeds[3] == [None] * 4


async def test_a_room_whose_close_is_cancelled_half_way_holds_nothing_either(tmp_path, monkeypatch):
    ending = asyncio.Event()

    async def out():
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await asyncio.sleep(0.01)

    clock = SystemClock()
    budget, trajectory = Budget(Limits(msat=10_000), now=clock.monotonic()), Trajectory(tmp_path / "run", clock)
    sub = FunctionSubLM(lambda prompt: "answer", msat=1, most_msat=1_000)
    room = SubCallRunner(sub, SubSettings(), Gate(clock), trajectory, clock)
    # It was let through, and its turn to be sent does not come.
    monkeypatch.setattr(room, "_send", lambda: None)
    asking = asyncio.create_task(room.ask(Caller("0", budget, 1), ["a"], ["x"], None))
    room._asking.add(asyncio.create_task(out()))
    await asyncio.sleep(0)
    closing = asyncio.create_task(room.close())
    await ending.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    [outcome] = await asyncio.wait_for(asking, 20)
    assert outcome.code == "cancelled" and (budget.reserved.msat, budget.reserved.calls) == (0, 0)


@pytest.mark.parametrize("turns", [1, 2, 3], ids=["before it is sent", "before its first step", "while it is out"])
async def test_calls_of_a_room_that_is_closed_at_any_moment_are_written_down_and_hold_nothing(tmp_path, turns):
    async def answer(prompt):
        await asyncio.Event().wait()

    clock = SystemClock()
    budget, trajectory = Budget(Limits(msat=10_000), now=clock.monotonic()), Trajectory(tmp_path / "run", clock)
    room = SubCallRunner(
        FunctionSubLM(answer, msat=1, most_msat=1_000), SubSettings(), Gate(clock), trajectory, clock
    )
    asking = asyncio.create_task(room.ask(Caller("0", budget, 1), ["a", "b"], ["x", "y"], None))
    for _ in range(turns):
        await asyncio.sleep(0)
    await room.close()
    outcomes = await asyncio.wait_for(asking, 20)
    assert [outcome.code for outcome in outcomes] == ["cancelled"] * 2
    assert (budget.reserved.msat, budget.reserved.calls) == (0, 0)
    assert [event["call"] for event in Run(tmp_path / "run").events() if event["type"] == "returned"] == ["a", "b"]


@pytest.fixture
def fill_disk(monkeypatch):
    """Calling it leaves no room for any trajectory."""

    def full(_file, _data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(trajectory, "_write_all", full)


@pytest.mark.parametrize("when", ["before they are sent", "while they are out"])
async def test_on_a_full_disk_all_calls_end_are_settled_and_no_more_is_sent(tmp_path, fill_disk, when):
    ended = asyncio.Event()

    async def answer(prompt):
        if prompt == "first":
            fill_disk()
            return prompt
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    clock = SystemClock()
    budget = Budget(Limits(msat=10_000), now=clock.monotonic())
    sub = FunctionSubLM(answer, msat=331, most_msat=900)
    room = SubCallRunner(sub, SubSettings(), Gate(clock), Trajectory(tmp_path / "run", clock), clock)
    if when == "before they are sent":
        fill_disk()
    asking = room.ask(Caller("0", budget, 1), ["a", "b", "c"], ["first", "second", "third"], None)
    outcomes = await asyncio.wait_for(asking, 20)
    assert budget.reserved == Cost()
    if when == "before they are sent":
        assert not sub.jobs
        assert {outcome.code for outcome in outcomes} == {"internal"}
    else:
        await asyncio.wait_for(ended.wait(), 20)
        assert outcomes[0].text == "first" and [outcome.code for outcome in outcomes[1:]] == ["internal"] * 2
        assert (budget.spent.msat, budget.spent.calls) == (331, 3)
    await room.close()


async def test_a_call_that_waited_is_refused_on_a_full_disk_and_what_was_set_aside_is_free(tmp_path, fill_disk):
    def answer(prompt):
        fill_disk()
        return prompt

    clock = SystemClock()
    budget = Budget(Limits(calls=2, msat=10_000), now=clock.monotonic())
    sub = FunctionSubLM(answer, msat=331, most_msat=900)
    room = SubCallRunner(sub, SubSettings(), Gate(clock), Trajectory(tmp_path / "run", clock), clock)
    asking = room.ask(Caller("0", budget, 1), ["a", "b", "c"], ["first", "second", "waits"], None)
    outcomes = await asyncio.wait_for(asking, 20)
    assert outcomes[0].text == "first" and [one.code for one in outcomes[1:]] == ["internal", "budget_calls"]
    assert (budget.reserved, budget.spent.msat) == (Cost(), 331)
    await room.close()


@pytest.mark.parametrize("depth", [0, 1])
async def test_a_full_disk_ends_a_run_with_what_to_do(tmp_path, fill_disk, depth):
    def answer(prompt):
        fill_disk()
        return prompt

    turns = [repl(f"got = {'rlm' if depth else 'llm'}_query('x')"), repl("print('never')")]
    stage = Stage(
        tmp_path,
        lambda chat: repl("llm_query('y')") if "Your task" in chat[1].content else turns[len(chat) // 3],
        answer,
    )
    with pytest.raises(TrajectoryError, match="cannot be written: No space left") as caught:
        await stage.run(limits=Limits(depth=depth))
    assert "Free some space" in caught.value.hint
    assert all(event["type"] != "final" for event in stage.events())
    assert len(stage.root.chats) == 1 + depth


async def test_a_provider_that_counts_more_tokens_than_there_can_be_uses_up_no_budget(tmp_path):
    class Boasting(FunctionSubLM):
        async def ask(self, jobs, *, budget_msat=None):
            async for place, outcome in super().ask(jobs, budget_msat=budget_msat):
                yield place, replace(outcome, prompt_tokens=10**12, completion_tokens=10**12)

    code = repl("first = llm_query('größe')\nFINAL(llm_query('after ' + first))")
    stage = Stage(tmp_path, [code], Boasting(lambda _: "yes"), sub_settings=SubSettings(max_tokens=10))
    outcome = await stage.run(limits=Limits(tokens=100_000))
    assert (outcome.answer, outcome.partial) == ("yes", False)
    # The bytes of both prompts, what a template may add, and the longest answers; the rest is the root's.
    turn = stage.events("turn")[0]
    spent = stage.events("final")[0]["spent"]["tokens"] - turn["prompt_tokens"] - turn["completion_tokens"]
    assert spent == len("größe".encode()) + len("after yes") + 2 * (256 + 10)
    tally = Tally()
    for event in stage.events():
        tally.add(event)
    assert tally.sub_tokens == spent
