"""Every example of docs/python-api.md runs, against the shipped relay and provider with the stand-in engine."""

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon import api
from pylon.errors import UnreachableError
from pylon.relay.server import RelayServer
from pylon.swarm.blocking import Swarm
from tests.swarm.test_exchange import serve

FENCED = re.findall(r"```python\n(.*?)```", Path("docs/python-api.md").read_text("utf-8"), re.DOTALL)
# The others need a home: tests/node/test_swarm_client.py and tests/rlm/test_rlm_client.py run them.
EXAMPLES = [example for example in FENCED if not re.search("NodeSwarm|Rlm", example)]


async def test_every_example_runs_and_so_do_cells_of_a_notebook(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await serve(stack, relay, tmp_path / "provider.db")
        assert len(EXAMPLES) == 3
        for example in EXAMPLES:
            code = compile(example, "docs/python-api.md", "exec")
            await asyncio.to_thread(exec, code, {"RELAY": relay.url})
            assert "stand-in answer" in capsys.readouterr().out

        def cell() -> list[object]:
            with Swarm([relay.url]) as swarm:
                assert len(swarm.providers()) == 1
                return list(swarm.stream("piece by piece"))

        def chat() -> str:
            with Swarm([relay.url]) as swarm:
                return swarm.complete(messages=[{"role": "user", "content": "without a prompt"}]).text

        assert "without a prompt" in await asyncio.to_thread(chat)
        *pieces, answer = await asyncio.to_thread(cell)
        assert answer.text.startswith("stand-in answer")  # type: ignore[attr-defined]
        assert all(isinstance(piece, str) for piece in pieces)


async def test_a_loop_that_runs_already_is_no_hindrance_and_no_relay_is_said_so() -> None:
    for relays in (["ws://127.0.0.1:9"], []):
        with pytest.raises(UnreachableError) as caught:
            Swarm(relays, wait_s=0.3)
        # There is no config file to name them in.
        assert "Swarm(" in caught.value.hint and "config.toml" not in caught.value.hint
    with pytest.raises(TypeError, match="SecretKey"):
        Swarm(["ws://127.0.0.1:9"], secret="nsec1")  # type: ignore[arg-type]


def test_every_name_that_programs_use_is_there_and_documented() -> None:
    said = Path("docs/python-api.md").read_text("utf-8") + Path("docs/first-customer.md").read_text("utf-8")
    for name in api.__all__:
        assert getattr(api, name).__name__ == name or name == "Outcome"
        assert re.search(rf"\b{name}\b", said), name
