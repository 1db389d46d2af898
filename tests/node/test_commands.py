"""The commands as people use them: processes, one home, a real relay."""

import asyncio
import random
import socket
from contextlib import AsyncExitStack

import orjson
import pytest

from pylon.cli.running import household_line
from pylon.relay.server import RelayServer
from tests.node import programs

NOBODY = "ws://127.0.0.1:9"


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_node_serves_is_asked_paused_drained_and_stopped(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url)
    code, made, _ = await programs.run("init", env=env)
    assert (code, made["new"]) == (0, True)
    serving = await programs.start(env, stack)
    assert serving.hello["npub"] == made["npub"]
    assert serving.hello["model"] == "stand-in-instant"

    code, answer, _ = await programs.run("ask", "How many legs has a spider?", env=env)
    assert code == 0
    assert answer["text"] and answer["model"] == "stand-in-instant" and answer["attempts"] == 1
    assert (answer["finish"], answer["max_completion_tokens"]) == ("stop", 4_096)
    # For people: that an answer is not whole.
    spoken = await programs.spawn("ask", "Which legs?", "--max-tokens", "2", env=env, stderr=asyncio.subprocess.PIPE)
    text, beside = await asyncio.wait_for(spoken.communicate(), 60)
    assert text == b"stand-in answer\n" and b"cut off at 2 tokens; use --max-tokens to ask for a longer one" in beside

    prompts = b"".join(orjson.dumps({"prompt": f"line {n}"}) + b"\n" for n in range(30))
    code, mapped, _ = await programs.run("map", "-", env=env, stdin=prompts)
    assert (code, mapped["jobs"], mapped["answered"]) == (0, 30, 30)
    assert [outcome["index"] for outcome in mapped["outcomes"]] == list(range(30))

    code, seen, _ = await programs.run("providers", env=env)
    assert [row["state"] for row in seen["providers"]] == ["ready"]
    npub = seen["providers"][0]["provider"]
    code, why, _ = await programs.run("providers", "--why", f"{npub[:14]}…", env=env)
    assert (code, why["provider"], why["now"]) == (0, npub, "can take jobs")
    assert (await programs.run("providers", "--why", "npub1qqqqqqqqq", env=env))[0] == 2
    code, listed, _ = await programs.run("jobs", "-n", "5", env=env)
    assert len(listed["jobs"]) == 5

    assert (await programs.run("pause", env=env))[0] == 0
    code, status, _ = await programs.run("status", env=env)
    assert (code, status["provider"]["paused"]) == (0, "owner")
    # A home where no node runs: there the command's own settings count.
    visitor = programs.environment(tmp_path / "visitor", relay.url, PYLON_CUSTOMER__PATIENCE_S="1")
    await programs.run("init", env=visitor)
    code, _, _ = await programs.run("ask", "anyone?", env=visitor)
    assert code in (4, 5)
    assert (await programs.run("resume", env=env))[1]["paused"] == ""
    assert (await programs.run("drain", env=env))[1] == {"drained": True}
    drain = await programs.spawn("drain", env=env, stderr=asyncio.subprocess.PIPE)
    printed = await asyncio.wait_for(drain.communicate(), 60)
    assert printed == (b"drained: no jobs are left, and none are taken\n", b"")
    assert (await programs.run("stop", env=env))[1] == {"stopped": True}
    assert await asyncio.wait_for(serving.process.wait(), 30) == 0
    code, status, told = await programs.run("status", env=env)
    assert (code, status["running"], told) == (4, False, "")


async def test_what_a_command_saw_of_a_provider_the_next_one_knows(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    provider = programs.environment(tmp_path / "provider", relay.url)
    await programs.run("init", env=provider)
    npub = (await programs.start(provider, stack)).hello["npub"]
    env = programs.environment(tmp_path / "customer", relay.url)
    await programs.run("init", env=env)
    told = []
    for command in (("map", "-"), ("map", "-"), ()):
        why = (await programs.run("providers", "--why", npub, env=env))[1]["why"]
        told.append(" ".join(why))
        if command:
            assert (await programs.run(*command, env=env, stdin=b"a line of text\n" * 6))[1]["answered"] == 6
    assert "unknown so far" in told[0]
    assert "6 answers while it was alone" in told[1] and "gets two jobs at a time" in told[1]
    assert "12 answers while it was alone" in told[2] and "gets two jobs" not in told[2]


async def test_three_commands_at_once_make_one_core_and_right_answers(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    other = programs.environment(tmp_path / "other", relay.url)
    await programs.run("init", env=other)
    await programs.start(other, stack)
    env = programs.environment(tmp_path / "home", relay.url)
    await programs.run("init", env=env)
    prompts = b"".join(b"line %d\n" % n for n in range(40))
    start, mapped, asked = await asyncio.gather(
        programs.start(env, stack),
        programs.run("map", "-", env=env, stdin=prompts),
        programs.run("ask", "How many legs has a spider?", env=env),
    )
    assert mapped[0] == 0 and mapped[1]["answered"] == 40
    assert asked[0] == 0 and asked[1]["text"]
    _, status, _ = await programs.run("status", env=env)
    assert status["pid"] == start.process.pid
    assert status["provider"] is not None


async def test_a_start_that_fails_makes_no_household_and_one_that_serves_says_whom(tmp_path, stack):
    port = programs.free_port()
    with socket.create_server(("127.0.0.1", port)):
        env = programs.environment(tmp_path / "a", "ws://127.0.0.1:7447", PYLON_RELAY__PORT=str(port))
        env |= {"PYLON_RELAY__HOST": "127.0.0.1"}
        await programs.run("init", env=env)
        file = tmp_path / "a" / "play" / "household.json"
        status, _, told = await programs.run("start", "--relay", env=env)
        assert status == 3 and "`port` in [relay]" in told, "`start` has no option for it"
        assert not file.exists(), "the relay never listened"
    no_model = env | {"PYLON_INFERENCE__ENGINE": "mlx", "PYLON_INFERENCE__MODEL": "not/here"}
    assert (await programs.run("start", "--relay", env=no_model))[0] != 0
    assert not file.exists(), "nothing was served"
    served = await programs.serve("start", "--relay", env=env, stack=stack)
    alone = {"machines": 1, "head": True, "strangers": False}
    assert served.hello["household"] == alone
    assert (await programs.run("status", env=env))[1]["household"] == alone
    status, _, told = await programs.run("start", "--relay", env=env)
    assert status != 0 and "a node already serves this home" in told
    assert file.exists(), "this one serves"
    assert household_line(alone) == "household of 1 machine; strangers are not served"


async def test_a_second_server_of_one_home_is_told_who_serves_it(tmp_path, stack):
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url)
    await programs.run("init", env=env)
    first = await programs.start(env, stack)
    code, error, text = await programs.run("start", env=env)
    assert code == 3
    assert str(first.process.pid) in error["error"]["message"]
    assert "pylon stop" in text


@pytest.mark.parametrize("command", [("start",), ("ask", "x"), ("status",), ("jobs",), ("identity", "show")])
async def test_without_a_home_every_command_names_the_next_step(tmp_path, command):
    env = programs.environment(tmp_path / "nowhere", NOBODY)
    code, error, text = await programs.run(*command, env=env)
    assert code == 3
    assert error["error"]["type"] == "SetupError"
    assert "pylon init" in text


async def test_without_a_key_the_next_step_is_named(tmp_path):
    env = programs.environment(tmp_path / "home", NOBODY)
    await programs.run("init", env=env)
    (tmp_path / "home" / "play" / "identity").unlink()
    code, error, _ = await programs.run("ask", "x", env=env)
    assert code == 3
    assert "identity restore" in error["error"]["hint"]


async def test_without_a_relay_or_a_provider_the_customer_is_told_which(tmp_path, stack):
    env = programs.environment(tmp_path / "home", NOBODY, PYLON_CUSTOMER__PATIENCE_S="1")
    await programs.run("init", env=env)
    code, error, _ = await programs.run("ask", "x", env=env)
    assert code == 4
    assert "relay" in error["error"]["message"] and NOBODY in error["error"]["message"]
    listed, same, _ = await programs.run("providers", env=env)
    assert (listed, same) == (code, error), "an empty list would say that nobody is alive"
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url, PYLON_CUSTOMER__PATIENCE_S="1")
    code, error, _ = await programs.run("ask", "x", env=env)
    assert code == 4
    assert "provider" in error["error"]["message"] and "pylon start" in error["error"]["hint"]


async def test_a_model_that_is_not_here_is_named_before_anything_starts(tmp_path):
    env = programs.environment(
        tmp_path / "home", NOBODY, PYLON_INFERENCE__ENGINE="mlx", PYLON_INFERENCE__MODEL="no-such-model"
    )
    await programs.run("init", env=env)
    code, error, _ = await programs.run("start", env=env)
    assert code == 1
    assert error["error"]["type"] == "ModelError" and "no-such-model" in error["error"]["message"]


async def test_a_key_survives_backup_and_restore(tmp_path):
    env = programs.environment(tmp_path / "home", NOBODY, PYLON_PASSPHRASE="correct horse battery")
    _, made, _ = await programs.run("init", env=env)
    backup = tmp_path / "backup"
    code, saved, _ = await programs.run("identity", "backup", str(backup), env=env)
    assert (code, saved["encrypted"]) == (0, True)
    assert backup.read_text().startswith("ncryptsec1")
    elsewhere = {**env, "PYLON_HOME": str(tmp_path / "elsewhere")}
    code, restored, _ = await programs.run("identity", "restore", str(backup), env=elsewhere)
    assert (code, restored["npub"]) == (0, made["npub"])
    code, shown, _ = await programs.run("identity", "show", env=elsewhere)
    assert shown["npub"] == made["npub"]


async def test_a_prompt_that_fits_no_event_is_refused_before_anybody_is_asked(tmp_path):
    env = programs.environment(tmp_path / "home", NOBODY)
    await programs.run("init", env=env)
    noise = random.Random(1).randbytes(60_000).hex()
    code, printed, _ = await programs.run("ask", "-", env=env, stdin=noise.encode())
    assert code == 2
    assert printed["error"]["message"].startswith("a prompt of ") and "65,536" in printed["error"]["message"]
