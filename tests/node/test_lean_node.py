"""A node stays for months beside what its owner does: it holds no library that serving does not need."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from pylon.relay.server import RelayServer
from tests.node import programs

# What other commands, other processes and jobs of another kind need.
ELSEWHERE = {
    "bitstring",
    "bolt11",
    "fastapi",
    "httpx",
    "huggingface_hub",
    "jsonschema",
    "llama_cpp",
    "llguidance",
    "mcp",
    "mlx",
    "mlx_lm",
    "numpy",
    "pydantic_settings",
    "pygments",
    "rich",
    "structlog",
    "tokenizers",
    "tomlkit",
    "transformers",
    "zeroconf",
}
ROOMS_ELSEWHERE = {"bench", "rlm", "conformance", "relay", "swarm"}
# The tables of all rooms are made with the database.
SHARED = {"pylon.swarm", "pylon.swarm.schema"}


def imported(timings: str) -> set[str]:
    """The modules in what `python -X importtime` prints."""
    lines = [line.split("|") for line in timings.splitlines() if line.startswith("import time:")]
    return {parts[2].strip() for parts in lines if len(parts) == 3}


async def test_a_node_that_serves_holds_neither_a_models_library_nor_another_commands(tmp_path: Path) -> None:
    async with RelayServer() as relay:
        env = programs.environment(tmp_path / "home", relay.url, PYLON_INFERENCE__ENGINE="mlx")
        asking = programs.environment(tmp_path / "asking", relay.url)
        await programs.run("init", env=env)
        await programs.run("init", env=asking)
        timings = tmp_path / "timings"
        with timings.open("wb") as stream:
            profiled = {**env, "PYTHONPROFILEIMPORTTIME": "1"}
            node = await programs.spawn("start", "--json", env=profiled, stderr=stream)
        try:
            assert node.stdout is not None
            assert await asyncio.wait_for(node.stdout.readline(), programs.READY_S)
            await programs.loaded(env)
            code, answer, _ = await programs.run("ask", "What is 2 and 2?", env=asking)
            assert (code, answer["model"]) == (0, "needle-1")
            await programs.run("status", env=env)
        finally:
            if node.returncode is None:
                node.send_signal(signal.SIGTERM)
            await node.wait()
    modules = imported(timings.read_text())
    assert {"pylon.node.core", "pylon.provider.service", "pylon.inference.service"} <= modules
    assert {name for name in modules if name.split(".")[0] in ELSEWHERE} == set()
    assert {name for name in modules if {*name.split(".")[1:2]} & ROOMS_ELSEWHERE} - SHARED == set()


def test_what_a_running_node_answers_is_asked_without_what_makes_a_node() -> None:
    look = "import sys, pylon.cli.status, pylon.cli.node, pylon.cli.ask; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()
    assert "pylon.node.session" in modules
    assert not {"pylon.node.core", "pylon.provider.service", "pylon.store.database"} & {*modules}
