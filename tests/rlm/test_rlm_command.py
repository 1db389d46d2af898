"""`pylon rlm` as people use it: processes, a real relay, a real sandbox. The stand-in engine answers sub-calls, and
the root model is a script behind a real HTTP endpoint."""

from contextlib import AsyncExitStack

import orjson
import pytest

from pylon.relay.server import RelayServer
from tests.node import programs
from tests.rlm.completions import completion, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def scripted(request):
    """Looks, asks, goes one deeper, answers."""
    turn = sum(message["role"] == "assistant" for message in request["messages"])
    if "Your task stands" in request["messages"][1]["content"]:
        text = "```repl\nFINAL(llm_query('deep: ' + context))\n```"
    elif turn == 0:
        text = "```repl\nsecond = next(context[name] for name in context if name.endswith('b.txt'))\n```"
    elif turn == 1:
        text = "```repl\nparts = llm_query_batched([f'{n}: ' + second for n in range(5)])\nprint(parts)\n```"
    else:
        text = "```repl\nFINAL(f'{len(set(parts))} and ' + rlm_query('the rest'))\n```"
    return 200, [], completion(text, model="scripted")


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def env(tmp_path, stack):
    """A node that serves the stand-in and is asked itself, and two files."""
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url)
    await programs.run("init", env=env)
    await programs.start(env, stack)
    (tmp_path / "a.txt").write_text("first file")
    (tmp_path / "b.txt").write_text("second file")
    return env


async def test_a_root_model_runs_the_whole_loop_over_the_swarm(tmp_path, stack, env):
    url, asked = await stack.enter_async_context(served(scripted))
    (tmp_path / "key").write_text("sk-test")
    rooted = {
        **env, "PYLON_RLM__ROOT": "endpoint", "PYLON_RLM__ROOT_URL": url, "PYLON_RLM__ROOT_MODEL": "scripted",
        "PYLON_RLM__ROOT_KEY_FILE": str(tmp_path / "key"),
    }  # fmt: skip
    files = ("--context", f"{tmp_path}/a.txt", "--context", f"{tmp_path}/*.txt", "--as", "files")
    code, report, told = await programs.run("rlm", "What is it?", *files, env=rooted)
    assert code == 0, told
    assert report["answer"].startswith("5 and stand-in answer")
    assert (report["strategy"], report["turns"], report["calls"], report["failed"]) == ("rlm", 4, 7, 0)
    assert "Bearer sk-test" in asked[0][0] and "sk-test" not in told

    code, listed, _ = await programs.run("rlm", "list", env=rooted)
    assert [run["id"] for run in listed["runs"]] == [report["id"]] and listed["runs"][0]["state"] == "ended"
    code, again, told = await programs.run("rlm", "replay", report["id"], env=rooted)
    assert (code, again["same"], again["answer"]) == (0, True, report["answer"]), told
    assert len(asked) == 4

    process = await programs.spawn("rlm", "export", report["id"], "--format", "rlm", env=rooted)
    out, _ = await process.communicate()
    lines = [orjson.loads(line) for line in out.splitlines()]
    assert [line["type"] for line in lines] == ["metadata"] + ["iteration"] * 3
    process = await programs.spawn("rlm", "show", "last", "--follow", env=rooted)
    out, _ = await process.communicate()
    assert b"final" in out


async def test_without_a_root_model_a_program_runs_within_its_budget(tmp_path, env):
    code, report, told = await programs.run("rlm", "Which file?", "-c", "-", env=env, stdin=b"something long " * 500)
    assert code == 0, told
    assert report["strategy"] == "map-reduce" and report["context_chars"] == 7_500
    assert "no root model" in told and "stand-in-instant" in told
    assert report["answer"].startswith("stand-in answer")

    long = " ".join(map(str, range(100_000))).encode()
    code, report, told = await programs.run("rlm", "Which?", "-c", "-", "--calls", "2", env=env, stdin=long)
    assert code == 5 and report["partial"] and "over the budget" in told
    assert report["calls"] - report["failed"] == 2


async def test_what_is_missing_is_named(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url)
    await programs.run("init", env=env)
    for arguments, code, said in (
        (("rlm", "q"), 2, "--context"),
        (("rlm", "q", "-c", "/nowhere/at/all"), 2, "/nowhere/at/all"),
        (("rlm", "q", "-c", "-"), 4, "no provider"),
        (("rlm", "show", "nope"), 2, "rlm list"),
    ):
        got, _, told = await programs.run(*arguments, env=env, stdin=b"x")
        assert (got, said in told) == (code, True), told
