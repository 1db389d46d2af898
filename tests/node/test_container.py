"""What the image runs: its entrypoint and its health check, here without the image."""

import asyncio
import os
import shlex
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from pylon.relay.server import RelayServer
from tests.node.programs import environment, serve

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "ws://127.0.0.1:1"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A container's: `pylon` is on the path, and nothing else of ours is."""
    command = tmp_path / "bin" / "pylon"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pylon.cli.main "$@"\n')
    command.chmod(0o755)
    made = environment(tmp_path / "home", NOBODY, PYTHONPATH=str(ROOT))
    return {**made, "PATH": f"{command.parent}:{os.environ['PATH']}"}


def enter(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "docker" / "entrypoint", *arguments],
        env=env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


async def healthy(*command: str, env: dict[str, str], tmp_path: Path) -> bool:
    file = tmp_path / "cmdline"
    file.write_bytes(b"".join(word.encode() + b"\0" for word in ("/opt/pylon/bin/python", "pylon", *command)))
    check = await asyncio.create_subprocess_exec(sys.executable, ROOT / "docker" / "healthy.py", file, env=env)
    return await asyncio.wait_for(check.wait(), 100) == 0


def test_a_key_is_restored_into_a_fresh_volume(env, tmp_path):
    (tmp_path / "key.txt").write_text("1" * 64)
    done = enter("identity", "restore", str(tmp_path / "key.txt"), env=env)
    assert (done.returncode, done.stdout.split()[0]) == (0, "restored"), done.stderr
    # A home that a `start` made has a key already, which is never written over.
    assert enter("identity", "restore", str(tmp_path / "key.txt"), env=env).returncode != 0


def test_a_node_makes_its_home_and_other_commands_make_none(env, tmp_path):
    enter("status", env=env)
    assert not (tmp_path / "home").exists()
    enter("start", "--help", env=env)
    assert (tmp_path / "home" / "play" / "identity").exists()


async def test_a_node_is_healthy_while_it_serves(env, tmp_path):
    enter("init", env=env)
    assert not await healthy("start", env=env, tmp_path=tmp_path)
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await serve("start", env={**env, "PYLON_RELAYS": f'["{relay.url}"]'}, stack=stack)
        assert await healthy("start", env=env, tmp_path=tmp_path)


@pytest.mark.parametrize("lack", ["relay", "model"])
async def test_a_node_that_nobody_can_ask_or_whose_model_failed_is_not_healthy(env, tmp_path, lack):
    enter("init", env=env)
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        if lack == "model":
            env |= {"PYLON_RELAYS": f'["{relay.url}"]', "PYLON_INFERENCE__INSTANT_DELAY_S": "0"}
            env |= {"PYLON_INFERENCE__ENGINE": "mlx", "PYLON_INFERENCE__MEMORY_GB": "0.001"}
        await serve("start", env=env, stack=stack)
        if lack == "model":
            said = ""
            async with asyncio.timeout(60):
                while "the model failed" not in said:
                    said = (await asyncio.to_thread(enter, "status", env=env)).stdout
            assert "GB may be used here now" in " ".join(said.split())
        assert not await healthy("start", env=env, tmp_path=tmp_path)


async def test_a_relay_is_healthy_at_the_port_that_it_was_told(env, tmp_path):
    async with AsyncExitStack() as stack:
        relay = await serve("relay", "--port", "0", env=env, stack=stack)
        port = relay.hello["url"].rpartition(":")[2]
        assert await healthy("relay", "--host", "0.0.0.0", f"--port={port}", env=env, tmp_path=tmp_path)
        assert await healthy("relay", env={**env, "PYLON_RELAY__PORT": port}, tmp_path=tmp_path)
    assert not await healthy("relay", "--port", port, env=env, tmp_path=tmp_path)


async def test_a_gateway_is_healthy_while_it_answers(env, tmp_path):
    enter("init", env=env)
    async with AsyncExitStack() as stack:
        gateway = await serve("gateway", "--port", "0", env=env, stack=stack)
        port = gateway.hello["url"].removesuffix("/v1").rpartition(":")[2]
        assert await healthy("gateway", "--port", port, env=env, tmp_path=tmp_path)
    assert not await healthy("gateway", "--port", port, env=env, tmp_path=tmp_path)


async def test_what_ends_by_itself_is_healthy(env, tmp_path):
    assert await healthy("map", "prompts.jsonl", env=env, tmp_path=tmp_path)


def test_the_compose_file_names_the_relay_that_it_runs():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    relay = services["relay"]["command"]
    url = relay[relay.index("--public-url") + 1]
    assert services["node"]["environment"]["PYLON_RELAYS"] == f'["{url}"]'
    assert url.startswith("ws://relay:")
    # The lock that tells two homes with one wallet link from each other lies outside of the home.
    assert all("locks:/home/pylon/.local/state/pylon" in one["volumes"] for one in services.values())
