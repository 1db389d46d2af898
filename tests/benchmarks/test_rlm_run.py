"""The runner: what it sums is what was done. The root is a script, the sub-model a stand-in, the REPL no sandbox."""

import asyncio
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from benchmarks.rlm import hops, niah, pairs, programs, run, stand_in
from pylon.relay.server import RelayServer
from pylon.rlm.budget import Limits
from pylon.rlm.root import ScriptedRoot
from pylon.rlm.sublm import FunctionSubLM
from tests.node import programs as node
from tests.rlm.completions import completion, served
from tests.rlm.fakes import InProcessRepl


def bench(error=0.0, calls=None):
    sub = FunctionSubLM(stand_in.StandIn(error=error), name=stand_in.NAME, msat=500)
    return run.Bench(lambda task: ScriptedRoot(programs.turns(task)), sub, InProcessRepl, Limits(calls=calls))


async def test_a_right_script_and_a_right_sub_model_score_all_and_everything_is_counted(tmp_path):
    task = niah.make(random.Random(1), 12_000)
    row = await bench().run(task, tmp_path)
    assert (row.kind, row.score, row.partial, row.failed) == ("s-niah", 1.0, False, 0)
    assert row.calls == -(-len(task.context) // 3_800) and row.msat == 500 * row.calls
    # Pieces overlap, and each carries the question.
    assert row.sub_tokens > row.direct_tokens > 3_000 and row.root_tokens > 0


async def test_wrong_sub_answers_cost_score_and_a_spent_budget_is_told(tmp_path):
    tasks = pairs.make(random.Random(1), 6_000)
    wrong = [await bench(error=0.4).run(task, tmp_path) for task in tasks]
    assert 0 <= sum(row.score for row in wrong) / len(wrong) < 0.95
    short = await bench(calls=1).run(hops.make(random.Random(1), 3_000), tmp_path)
    assert short.partial and short.failed and short.score == 0.0


async def test_sums_are_means_of_a_task(tmp_path):
    rows = [await bench().run(niah.make(random.Random(seed), 6_000), tmp_path) for seed in range(2)]
    told = run.summed(rows)
    assert (told["tasks"], told["score"], told["failed"]) == (2, 100.0, 0)
    assert told["calls"] == (rows[0].calls + rows[1].calls) / 2
    both = sum(row.root_tokens + row.sub_tokens for row in rows)
    assert told["tokens_by_direct"] == pytest.approx(both / sum(row.direct_tokens for row in rows), abs=0.01)


def test_the_same_seeds_give_the_same_tasks_of_every_kind():
    made = list(run.tasks(list(run.KINDS), 1, 3_000))
    assert made == list(run.tasks(list(run.KINDS), 1, 3_000)) and {task.kind for task in made} == set(run.KINDS)


def test_the_page_has_the_papers_figures_and_leaves_empty_what_nobody_ran():
    page = (Path(run.__file__).parent / "README.md").read_text()
    assert "| paper: GPT-5, RLM of depth 1 | 56.5 | 58.0 | 91.3 |" in page
    assert "| Pylon: a large root model, sub-calls to the swarm | | | | |" in page


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_endpoint_is_the_root_and_the_swarm_answers(tmp_path):
    """The program as a person starts it; the endpoint says the script, and a stand-in engine serves the swarm."""
    made = list(run.tasks(["s-niah"], 1, 6_000))

    def script(request):
        asked = request["messages"][1]["content"]
        (task,) = [task for task in made if task.question in asked]
        turns = programs.turns(task)
        said = sum(message["role"] == "assistant" for message in request["messages"])
        return 200, [], completion(turns[min(said, len(turns) - 1)], model="served")

    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        url, asked = await stack.enter_async_context(served(script))
        env = node.environment(tmp_path / "home", relay.url)
        await node.run("init", env=env)
        await node.start(env, stack)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.rlm.run", "--root-url", url, "--root-model", "served", "--sub", "swarm",
            "--task", "s-niah", "--seeds", "1", "--chars", "6000", "--json", env=env, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
    report = orjson.loads(out)
    assert (process.returncode, report["root"], report["sub"]) == (0, "served", "the swarm")
    row = report["tasks"]["s-niah"]
    assert (row["tasks"], row["failed"], row["partial"]) == (len(made), 0, 0)
    assert row["calls"] >= 1 and row["root_tokens"] > 100 and row["sub_tokens"] > 1_000
    assert len(asked) >= len(made)
