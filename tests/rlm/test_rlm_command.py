"""`pylon rlm` as people use it: processes, a real relay, a real sandbox. The stand-in engine answers sub-calls, and
the root model is a script behind a real HTTP endpoint."""

import asyncio
import signal
from contextlib import AsyncExitStack

import orjson
import pytest

from pylon.relay.server import RelayServer
from tests.node import programs
from tests.rlm.completions import completion, served
from tests.waiting import until

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
    await programs.loaded(env)
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
    assert b"answer found" in out


async def test_without_a_root_model_a_program_runs_within_its_budget(tmp_path, env):
    code, report, told = await programs.run("rlm", "Which file?", "-c", "-", env=env, stdin=b"something long " * 500)
    assert code == 0, told
    assert report["strategy"] == "map-reduce" and report["context_chars"] == 7_500
    assert "no root model" in told and "stand-in-instant" in told
    assert report["answer"].startswith("stand-in answer")

    long = " ".join(map(str, range(100_000))).encode()
    code, report, told = await programs.run("rlm", "Which?", "-c", "-", "--calls", "2", env=env, stdin=long)
    assert code == 5 and (report["partial"], report["reason"]) == (True, "budget")
    assert report["calls"] - report["failed"] == 2 and "the budget allows 2" in told and "--calls" in report["hint"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_run_that_is_ended_says_its_id_and_what_it_spent(tmp_path, stack, env, number):
    code = "```repl\nprint(llm_query('a'))\nimport time\ntime.sleep(60)\n```"
    url, _ = await stack.enter_async_context(served((200, [], completion(code))))
    rooted = {**env, "PYLON_RLM__ROOT": "endpoint", "PYLON_RLM__ROOT_URL": url, "PYLON_RLM__ROOT_MODEL": "scripted"}
    rooted["TMPDIR"] = str(tmp_path)
    process = await programs.spawn(
        "rlm", "What?", "-c", f"{tmp_path}/a.txt", "--json", env=rooted, stderr=asyncio.subprocess.PIPE
    )
    events = tmp_path / "home" / "runs"
    async with asyncio.timeout(100):
        await until(
            lambda: any(b'"returned"' in path.read_bytes() for path in events.glob("*/events.jsonl")), within_s=60
        )
        process.send_signal(number)
        out, told = await process.communicate()
    report = orjson.loads(out)
    assert process.returncode == 130 and report["error"]["type"] == "InterruptError"
    assert (report["reason"], report["calls"], report["spent"]["calls"]) == ("interrupted", 1, 1)
    assert [path.name for path in events.iterdir()] == [report["id"]] and report["id"] in told.decode()
    assert not list(tmp_path.glob("pylon-sandbox-*"))


async def test_a_root_model_that_refuses_from_the_first_turn_on_is_a_setting_at_fault(tmp_path, stack, env):
    for status, rc, kind, hint in ((401, 3, "SetupError", "root_key_file"), (0, 4, "UnreachableError", "root_url")):
        url, asked = await stack.enter_async_context(served((status, [], b"{}")))
        url = url if status else "http://127.0.0.1:9/v1"
        rooted = {**env, "PYLON_RLM__ROOT": "endpoint", "PYLON_RLM__ROOT_URL": url, "PYLON_RLM__ROOT_MODEL": "m"}
        code, report, told = await programs.run("rlm", "What?", "-c", f"{tmp_path}/a.txt", env=rooted)
        assert (code, report["error"]["type"]) == (rc, kind) and hint in report["error"]["hint"] and hint in told
        assert len(asked) == (1 if status else 0)
        code, listed, _ = await programs.run("rlm", "list", "-n", "1", env=rooted)
        assert listed["runs"][0]["reason"] == "root_failed"


async def test_many_questions_are_asked_in_one_go_each_with_its_own_line(tmp_path, env):
    rows = [
        {"question": "Which?", "name": "one", "context": f"{tmp_path}/a.txt"},
        {"question": "And this?", "text": "a text of its own"},
        {"question": "And that?", "context": [f"{tmp_path}/nowhere"]},
    ]
    (tmp_path / "set.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    env = {**env, "PYLON_RLM__KEEP_RUNS": "1"}
    process = await programs.spawn(
        "rlm", "--questions", f"{tmp_path}/set.jsonl", "--at-once", "2", env=env, stderr=asyncio.subprocess.PIPE
    )
    out, told = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 5 and "1 of 3 questions" in told.decode(), told
    reports = sorted(map(orjson.loads, out.splitlines()), key=lambda report: report["index"])
    assert [report["given"]["question"] for report in reports] == ["Which?", "And this?", "And that?"]
    assert reports[0]["given"]["name"] == "one" and "text" not in reports[1]["given"]
    assert reports[0]["answer"].startswith("stand-in") and reports[1]["context_chars"] == 17
    assert reports[2]["answer"] is None and "nowhere" in reports[2]["error"]["message"]
    # None of them has gone for another of the same set.
    assert {report["id"] for report in reports[:2]} == {path.name for path in (tmp_path / "home" / "runs").iterdir()}

    # What has no whole answer is asked again, and nothing else.
    (tmp_path / "reports.jsonl").write_bytes(out)
    process = await programs.spawn(
        "rlm", "--questions", f"{tmp_path}/set.jsonl", "--resume", f"{tmp_path}/reports.jsonl", env=env,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    again, told = await asyncio.wait_for(process.communicate(), 100)
    assert [orjson.loads(line)["index"] for line in again.splitlines()] == [2]
    assert "2 of 3 questions already have an answer" in told.decode()
    assert "1 of 3 questions got no answer" in told.decode()

    # The newest is kept; both may have begun in the same second.
    [kept] = (tmp_path / "home" / "runs").iterdir()
    [report] = [report for report in reports[:2] if report["id"] == kept.name]
    process = await programs.spawn("rlm", "export", kept.name, "--format", "csv", env=env)
    out, _ = await process.communicate()
    header, *lines = out.decode().splitlines()
    assert header.startswith("run,call,loop,turn,") and len(lines) == report["asked"]


async def test_bad_content_is_a_plain_error_that_says_where_and_no_usage(tmp_path):
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=env)
    latin, broken = tmp_path / "latin.jsonl", tmp_path / "broken.jsonl"
    latin.write_bytes('{"question": "a"}\n{"question": "é"}'.encode("latin-1"))
    broken.write_text('{"question": "a"}\n{"question": ')
    for arguments, said in (
        (("rlm", "--questions", str(latin)), f"{latin}:2: this is not UTF-8 text"),
        (("rlm", "--questions", str(broken)), f"{broken}:2: this is not valid JSON"),
        (("rlm", "--questions", f"{tmp_path}/none"), f"{tmp_path}/none cannot be read: No such file"),
        (("rlm", " ", "-c", "-"), "the question is empty"),
        (("ask", " "), "the prompt is empty"),
        (("ask", "-"), "standard input is empty"),
    ):
        code, _, told = await programs.run(*arguments, env=env)
        assert code == 2 and said in " ".join(told.split()) and "Usage" not in told, told


async def test_what_is_missing_is_named(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url)
    await programs.run("init", env=env)
    for arguments, code, said in (
        (("rlm", "q"), 2, "--context"),
        (("rlm", "ask"), 2, "--questions"),
        (("rlm", "q", "--questions", "x", "-c", "-"), 2, "not both"),
        (("rlm", "q", "-c", "-", "--budget-each"), 2, "--questions"),
        (("rlm", "q", "-c", "x", "--resume", "x"), 2, "--resume"),
        (("rlm", "q", "-c", "-", "--sandbox", "none"), 2, "'auto', 'wasm', 'process'"),
        (("rlm", "q", "-c", "/nowhere/at/all"), 2, "/nowhere/at/all"),
        (("rlm", "q", "-c", "-"), 4, "no provider"),
        (("rlm", "show", "nope"), 2, "no stored runs"),
    ):
        got, _, told = await programs.run(*arguments, env=env, stdin=b"x")
        assert (got, said in told) == (code, True), told
