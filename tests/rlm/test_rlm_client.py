"""The RLM from Python: a real relay, node and sandbox; the stand-in engine answers."""

import asyncio
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon.errors import SetupError, UnreachableError, UsageError
from pylon.node.rlm.blocking import Rlm
from pylon.node.rlm.client import RlmClient
from pylon.node.rlm.client import ask as ask_async
from pylon.relay.server import RelayServer
from pylon.rlm.runs import Run, summary
from tests.node import programs

FENCED = re.findall(r"```python\n(.*?)```", Path("docs/python-api.md").read_text("utf-8"), re.DOTALL)
EXAMPLES = [example for example in FENCED if "Rlm" in example]
TEXT = "It was signed by Ada in 1843. " * 20


async def ready(client):
    try:
        return await client.ask("ready?", "a text")
    except UnreachableError:
        return None


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_example_runs_and_what_it_says_is_in_the_trajectory(tmp_path, monkeypatch, capsys):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)
        await programs.start(env, stack)
        for name in [name for name in os.environ if name.startswith("PYLON_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PYLON_HOME", env["PYLON_HOME"])
        monkeypatch.setenv("PYLON_RELAYS", env["PYLON_RELAYS"])
        async with asyncio.timeout(60), RlmClient() as client:
            while not await ready(client):
                await asyncio.sleep(0.1)
        assert len(EXAMPLES) == 3
        for example in EXAMPLES:
            code = compile(example, "docs/python-api.md", "exec")
            await asyncio.to_thread(exec, code, {"TEXT": TEXT})
            assert ("in 1843" if "sub=" in example else "stand-in answer") in capsys.readouterr().out

        def cell():
            """In a thread that is not the main one, as all of a notebook's waiting is."""
            heard = []
            with Rlm(max_calls=50, seed=3) as rlm:
                answer = rlm.ask("what?", {"a": TEXT, "b": TEXT}, on_progress=lambda tally: heard.append(tally.sent))
                with pytest.raises(UsageError, match=r"rlm\.colour"):
                    rlm.ask("what?", TEXT, colour="red")
                with pytest.raises(UsageError, match="nowhere"):
                    rlm.ask("what?", files=tmp_path / "nowhere")
            with pytest.raises(UnreachableError, match="closed"):
                rlm.ask("what?", TEXT)
            rlm.close()
            return answer, heard

        answer, heard = await asyncio.to_thread(cell)
        assert answer.text.startswith("stand-in answer") and not answer.partial and heard[-1] > 0
        told = summary(Run(answer.folder))
        assert (told["id"], told["asked"], told["paid_msat"]) == (answer.run, len(answer.calls()), answer.msat)
        assert {call["seed"] is None for call in answer.calls() if call["state"] == "answered"} == {False}
        assert answer.report["spent"]["calls"] == told["calls"]
        (tmp_path / "a.txt").write_text(TEXT)
        assert (await ask_async("what?", files=[tmp_path / "a.txt"])).text.startswith("stand-in answer")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"question": " "}, "must be non-empty text"), ({"question": None}, "must be non-empty text"),
        ({"context": None}, "the context is None"), ({"files": "a.txt"}, "a context and files"),
        ({"shape": "weird"}, "shape must be auto"), ({"strategy": "guess"}, "map-reduce, search"),
        ({"strategy": ["rlm"]}, "strategy must be"), ({"sub": "a model"}, "str is not a sub-model"),
    ],
    ids=[f"{n}" for n in range(8)],
)  # fmt: skip
async def test_what_cannot_be_asked_so_is_said_before_anything_is_opened_or_asked(wrong, says):
    with pytest.raises(UsageError, match=says):
        await RlmClient().ask(**{"question": "what?", "context": TEXT, **wrong})


async def test_without_a_home_or_once_closed_it_says_so(tmp_path):
    with pytest.raises(SetupError, match=r"config\.toml"):
        async with RlmClient(tmp_path / "nowhere"):
            pass
    with pytest.raises(SetupError):
        await asyncio.to_thread(Rlm, tmp_path / "nowhere")
    with pytest.raises(UnreachableError, match="closed"):
        await RlmClient(tmp_path).ask("what?", "text")
