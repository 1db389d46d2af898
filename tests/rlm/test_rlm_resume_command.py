"""`pylon rlm resume` as people use it: a run that is killed, and one whose budget ends. Its models are stand-ins."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pylon.relay.server import RelayServer
from tests.node import programs
from tests.rlm.completions import completion, served
from tests.waiting import until

CELLS = [
    "got = llm_query_batched([f'{n}: ' + context for n in range(4)])\nprint(got)",
    "deep = rlm_query('the rest')\nprint(len(deep))",
    "FINAL(str(len(got)) + deep)",
]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_run_that_was_killed_and_one_whose_budget_ended_go_on_and_pay_nothing_twice(tmp_path, stack):
    down = True

    def scripted(request):
        turn = sum(message["role"] == "assistant" for message in request["messages"])
        if "last turn" in request["messages"][-1]["content"]:
            return 200, [], completion("as far as it came", model="scripted")
        if turn == 2 and down:
            return 503, [], b"{}"
        code = CELLS[min(turn, 2)]
        if "Your task stands" in request["messages"][1]["content"]:
            code = "FINAL(llm_query('deep: ' + context))"
        return 200, [], completion(f"```repl\n{code}\n```", model="scripted")

    url, asked = await stack.enter_async_context(served(scripted))
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url) | {
        "PYLON_RLM__ROOT": "endpoint", "PYLON_RLM__ROOT_URL": url, "PYLON_RLM__ROOT_MODEL": "scripted",
    }  # fmt: skip
    await programs.run("init", env=env)
    await programs.start(env, stack)
    (tmp_path / "a.txt").write_text("a file")
    ask = ("rlm", "What?", "-c", f"{tmp_path}/a.txt")
    process = await programs.spawn(*ask, "--json", env=env, stderr=asyncio.subprocess.PIPE)
    await until(
        lambda: (
            sum(len(path.read_bytes().split(b'"shown"')) for path in tmp_path.glob("home/runs/*/events.jsonl")) >= 3
        ),
        within_s=100,
    )
    process.kill()
    await process.wait()
    down, before = False, len(asked)
    code, report, told = await programs.run("rlm", "resume", env=env)
    assert code == 0, told
    assert report["answer"].startswith("4stand-in answer") and report["resumed"] and "resumed after" in told
    assert (report["calls"], report["loops"]) == (6, 2)
    new = [request for _, request in asked[before:]]
    assert len(new) <= 2 and all("Your task stands" not in one["messages"][1]["content"] for one in new)
    _, listed, _ = await programs.run("rlm", "list", env=env)
    assert [(one["id"], one["state"]) for one in listed["runs"]] == [(report["id"], "ended")]
    code, again, told = await programs.run("rlm", "replay", env=env)
    assert (code, again["same"]) == (0, True), told
    code, again, told = await programs.run("rlm", "resume", report["id"], env=env)
    assert (code, again["resumed"], again["answer"]) == (0, False, report["answer"])
    assert "already has a complete answer" in told

    code, short, told = await programs.run(*ask, "--calls", "2", env=env)
    assert code == 5 and short["refused"] and "pylon rlm resume" in told
    code, refused, _ = await programs.run("rlm", "resume", short["id"], env=env)
    assert code == 2 and "--calls" in refused["error"]["hint"]
    code, more, told = await programs.run("rlm", "resume", short["id"], "--calls", "20", env=env)
    assert (code, more["partial"], more["answer"]) == (0, False, report["answer"]), told
    assert more["calls"] == 6
