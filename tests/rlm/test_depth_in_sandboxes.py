"""Depth with the sandboxes that ship: each loop has its own, and all of them spend one budget."""

import asyncio

import psutil
import pytest

from pylon.rlm.budget import Limits
from pylon.rlm.repl.host import ChildRepl
from pylon.rlm.settings import LoopSettings
from tests.rlm.fakes import Stage, repl
from tests.rlm.test_depth import BOMB, SPLIT, barrier, one_level
from tests.waiting import until


def stage(tmp_path, backend, turns, sub=None, children=8):
    return Stage(tmp_path, turns, sub, settings=LoopSettings(children=children), open_repl=lambda: ChildRepl(backend))


def sandboxes():
    """Processes of sandboxes that this one has started and not ended."""
    return [child.pid for child in psutil.Process().children() if any("_child" in one for one in child.cmdline())]


async def test_a_child_loop_has_variables_of_its_own(tmp_path, backend):
    turns = one_level(
        repl("mine = 1\nFINAL(rlm_query('inner'))"), repl("FINAL(f\"{context} {'mine' in globals()}\")")
    )
    outcome = await stage(tmp_path, backend, turns).run(limits=Limits(depth=1))
    assert (outcome.answer, outcome.partial) == ("inner False", False)
    assert not sandboxes()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_three_levels_of_loops_put_their_answers_together(tmp_path, backend):
    at = stage(tmp_path, backend, [SPLIT])
    outcome = await at.run(context="abcdefghijklmnop", limits=Limits(depth=3), within_s=300)
    assert outcome.answer == "ABCDEFGHIJKLMNOP" and not outcome.partial
    assert len(at.events("loop")) == 15 and at.events("final")[0]["spent"]["calls"] == 14
    assert not sandboxes()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_recursion_bomb_is_stopped_and_leaves_no_process(tmp_path, backend):
    at = stage(tmp_path, backend, [BOMB], children=4)
    outcome = await at.run(limits=Limits(depth=30, calls=25), within_s=300)
    assert outcome.partial and "calls" in outcome.detail
    assert at.events("final")[0]["spent"]["calls"] == 25
    assert len(at.events("loop")) <= 26
    assert not sandboxes()


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_children_run_side_by_side(tmp_path, backend):
    turns = one_level(repl("FINAL(rlm_query_batched(list('abcdef')))"), repl("FINAL(llm_query(context))"))
    at = stage(tmp_path, backend, turns, barrier(6), children=6)
    outcome = await at.run(limits=Limits(depth=1), within_s=300)
    assert outcome.answer == '["a", "b", "c", "d", "e", "f"]'


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_an_interrupted_run_leaves_no_process(tmp_path, backend):
    at = stage(tmp_path, backend, [SPLIT], lambda _: asyncio.sleep(600))
    run = asyncio.create_task(at.run(context="x" * 64, limits=Limits(depth=2), within_s=300))
    await until(lambda: (tmp_path / "run").exists() and len(at.events("loop")) >= 3, within_s=100)
    assert len(sandboxes()) >= 3
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not sandboxes()
