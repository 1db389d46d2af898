"""A node whose engine runs out of memory amid jobs, as whoever runs it and whoever asks it see that."""

import resource
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import psutil
import pytest

from pylon.relay.server import RelayServer
from tests.node import programs

# Sixteen prompts of this length take more.
ROOM_BYTES = 20_000_000
LONG = "What is the answer to all of this? " * 30


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of another process")
async def test_a_node_whose_engine_runs_out_of_memory_lives_answers_every_job_and_says_so(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url, PYLON_INFERENCE__ENGINE="mlx")
        await programs.run("init", env=env)
        node = await programs.start(env, stack)
        assert (await programs.run("ask", "What is 1 and 2?", env=env))[0] == 0
        engine = (await programs.run("status", env=env))[1]["provider"]["engine"]
        child = psutil.Process(engine["pid"])
        most = child.memory_info().vms + ROOM_BYTES
        child.rlimit(resource.RLIMIT_AS, (most, most))
        prompts = b"".join(orjson.dumps({"prompt": f"{n} {LONG}"}) + b"\n" for n in range(16))
        code, mapped, _ = await programs.run("map", "-", "--max-tokens", "4", env=env, stdin=prompts)
        assert (code, mapped["answered"]) == (0, 16)
        status = (await programs.run("status", env=env))[1]
        assert status["pid"] == node.hello["pid"]
        after = status["provider"]["engine"]
        assert (after["state"], after["restarts"]) == ("ready", 1)
        assert after["reason"] in ("ran out of memory", "was killed by SIGSEGV", "was killed by SIGABRT")
        assert after["pid"] != engine["pid"]
        jobs = status["provider"]["jobs"]
        assert ("failed" not in jobs, sum(jobs.values())) == (True, 17)
