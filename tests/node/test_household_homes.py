"""Three homes and a relay of their own, as processes: joined by invite, free to each other, closed to others."""

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest

from pylon.nostr.bech32 import nip19
from tests.node.programs import environment, free_port, run, serve, spawn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PROMPTS = "\n".join(f"question {number}" for number in range(12)) + "\n"


def member(home) -> dict[str, str]:
    """A machine that knows no relay but what its household tells it."""
    env = environment(home, "ws://127.0.0.1:7447")
    return {name: value for name, value in env.items() if name != "PYLON_RELAYS"}


async def invited(env, relay, count):
    """`pylon invite`, and the lines that it prints."""
    process = await spawn(
        "invite", "-n", str(count), "--relay", relay, "--json", env=env, stderr=asyncio.subprocess.PIPE
    )
    codes = [orjson.loads(await asyncio.wait_for(process.stdout.readline(), 60))["code"] for _ in range(count)]
    return process, codes


async def ended(process) -> None:
    """Kills a command (kill -9) and waits for it."""
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def mapped(env, folder) -> set[str]:
    """The providers that answered a map, from this home."""
    prompts = folder / "prompts.txt"
    prompts.write_text(PROMPTS)
    status, data, told = await run("map", str(prompts), env=env)
    assert status == 0, told
    assert data["answered"] == 12, data
    return {nip19.parse_public_key(row["provider"]) for row in data["outcomes"]}


async def test_three_homes_serve_each_other_for_nothing_and_nobody_else(tmp_path):
    port = free_port()
    relay = f"ws://127.0.0.1:{port}"
    # It is not told of its own relay, which listens elsewhere than usual.
    head = {**member(tmp_path / "a"), "PYLON_RELAY__PORT": str(port), "PYLON_RELAY__HOST": "127.0.0.1"}
    others = [member(tmp_path / "b"), member(tmp_path / "c")]
    stranger = environment(tmp_path / "d", relay, PYLON_CUSTOMER__PATIENCE_S="2")
    async with AsyncExitStack() as stack:
        status, made, _ = await run("init", env=head)
        assert status == 0
        hello = (await serve("start", "--relay", env=head, stack=stack)).hello
        inviting, codes = await invited(head, relay, 2)
        for env, code in zip(others, codes, strict=True):
            status, data, told = await run("join", code, env=env)
            assert status == 0, told
        assert await asyncio.wait_for(inviting.wait(), 60) == 0
        keys = {nip19.parse_public_key(hello["npub"])}
        homes = {}
        for env in others:
            npub = (await serve("start", env=env, stack=stack)).hello["npub"]
            keys.add(nip19.parse_public_key(npub))
            homes[npub] = env

        status, data, told = await run("status", "--all", env=head)
        assert status == 0, told
        assert [row["alive"] for row in data["members"]] == [True] * 3
        for env, folder in zip((head, *others), ("a", "b", "c"), strict=True):
            assert await mapped(env, tmp_path / folder) <= keys
        jobs = (await run("jobs", env=others[0]))[1]["jobs"]
        assert jobs, "nothing went to the second machine"
        assert all(row["completion_tokens"] > 0 for row in jobs), "work is metered"

        await run("init", env=stranger)
        assert (await run("ask", "hello", env=stranger))[0] == 4
        assert (await run("join", codes[0], env=stranger))[0] == 4

        gone = nip19.npub(next(key for key in keys if key != nip19.parse_public_key(hello["npub"])))
        # As `pylon status --all` prints it.
        status, data, told = await run("expel", f"{gone[:14]}…", env=head)
        assert (status, data) == (0, {"removed": gone}), told
        status, data, _ = await run("status", "--all", env=head)
        assert gone not in {row["npub"] for row in data["members"]}
        async with asyncio.timeout(60):
            while not (refused := (await run("status", env=homes[gone]))[1]["refused"]):
                await asyncio.sleep(0.5)
        assert refused == [f"{relay} restricted: this relay answers only the keys on its list"]
        assert not (await run("status", env=head))[1]["refused"]
    assert (tmp_path / "a" / "play" / "household.json").stat().st_mode & 0o077 == 0
    assert made["new"]


async def test_a_line_with_yesterdays_address_and_start_behind_it_are_enough_for_a_second_machine(tmp_path):
    port = free_port()
    relay = f"ws://127.0.0.1:{port}"
    head = environment(tmp_path / "a", relay, PYLON_RELAY__PORT=str(port), PYLON_RELAY__HOST="127.0.0.1")
    second = member(tmp_path / "b")
    async with AsyncExitStack() as stack:
        assert (await run("init", env=head))[0] == 0
        here = (await serve("start", "--relay", env=head, stack=stack)).hello
        inviting, [code] = await invited(head, f"ws://127.0.0.1:{free_port()}", 1)
        process = await spawn("join", code, "--start", "--json", env=second, stderr=asyncio.subprocess.PIPE)
        stack.push_async_callback(ended, process)
        joined, started = [orjson.loads(await asyncio.wait_for(process.stdout.readline(), 90)) for _ in range(2)]
        assert await asyncio.wait_for(inviting.wait(), 60) == 0
        assert joined["head"] == here["npub"]
        assert relay in started["relays"], "the network told where it is"
        status, data, told = await run("status", "--all", env=head)
        assert (status, [row["alive"] for row in data["members"]]) == (0, [True, True]), told
