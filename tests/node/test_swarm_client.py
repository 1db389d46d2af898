"""The swarm from Python through a home: real relay, playbank and nodes; the stand-in engine answers."""

import asyncio
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon.errors import SetupError, UnreachableError, UsageError
from pylon.money.msat import Msat
from pylon.node.rlm.client import RlmClient
from pylon.node.swarm_blocking import NodeSwarm
from pylon.node.swarm_client import NodeSwarmClient
from pylon.relay.server import RelayServer
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, JobSpec
from tests.node import programs
from tests.waiting import until

FENCED = re.findall(r"```python\n(.*?)```", Path("docs/python-api.md").read_text("utf-8"), re.DOTALL)
EXAMPLES = [example for example in FENCED if "NodeSwarm" in example]


async def served(stack, tmp_path, monkeypatch, **settings):
    """A node that answers what its own home asks."""
    relay = await stack.enter_async_context(RelayServer())
    env = programs.environment(tmp_path / "home", relay.url, **settings)
    await programs.run("init", env=env)
    node = await programs.start(env, stack)
    for name in [name for name in os.environ if name.startswith("PYLON_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYLON_HOME", env["PYLON_HOME"])
    return node, env


async def test_it_asks_as_the_client_without_a_home_does(tmp_path, monkeypatch):
    async with AsyncExitStack() as stack:
        await served(stack, tmp_path, monkeypatch)
        async with NodeSwarmClient() as swarm:
            answer = await swarm.complete("How many?", max_tokens=16)
            assert answer.text.startswith("stand-in answer") and "receipt" not in answer.verified
            *pieces, last = [piece async for piece in swarm.stream(JobSpec("How many?", max_tokens=16))]
            assert pieces and all(isinstance(piece, str) for piece in pieces)
            assert isinstance(last, Answer) and last.text == pieces[-1] == answer.text

            told, came = [], {}
            bad = JobSpec("zero", max_tokens=-1)
            outcomes = await swarm.map(["one", bad, "three"], on_progress=told.append, on_outcome=came.__setitem__)
            assert [isinstance(one, Answer) for one in outcomes] == [True, False, True]
            assert isinstance(outcomes[1], JobFailed) and outcomes[1].reason is Failure.MALFORMED
            assert came == dict(enumerate(outcomes))
            assert (told[-1].total, told[-1].answered, told[-1].failed) == (3, 2, 1)
            assert [one.text for one in await swarm.map(["one"])] == [outcomes[0].text]
            assert await swarm.map([]) == []

            with pytest.raises(JobFailed, match="max_tokens"):
                await swarm.complete("zero", max_tokens=-1)
            with pytest.raises(UnreachableError):
                await swarm.complete(JobSpec("who?", model="nobody-has-it", timeout=1.0))
            with pytest.raises(ValueError, match="deadline_s"):
                await swarm.map(["one"], deadline_s=-1.0)
            assert [row["state"] for row in await swarm.providers()] == ["ready"]
            assert await swarm.providers(wait_s=0, model="nobody-has-it") == []
        with pytest.raises(UnreachableError, match="closed"):
            await swarm.complete("How many?")


async def test_what_cannot_be_asked_fails_in_its_place_whether_a_node_runs_or_not(tmp_path, monkeypatch):
    odd = [
        JobSpec("half a \ud83d"),
        JobSpec("a", schema={"enum": {1, 2}}),
        JobSpec("a", seed=2**70),
        JobSpec("a", temperature=float("nan")),
        JobSpec("a", timeout=float("inf")),
        JobSpec(b"bytes"),
        JobSpec(None),
    ]
    async with AsyncExitStack() as stack:
        await served(stack, tmp_path, monkeypatch)
        async with NodeSwarmClient() as swarm:
            came, told = {}, []
            outcomes = await swarm.map(["one", *odd, "two"], on_outcome=came.__setitem__, on_progress=told.append)
            assert [isinstance(one, Answer) for one in outcomes] == [True, *[False] * len(odd), True]
            assert {one.reason for one in outcomes[1:-1]} == {Failure.MALFORMED}
            assert came == dict(enumerate(outcomes))
            assert (told[-1].total, told[-1].answered, told[-1].failed) == (len(odd) + 2, 2, len(odd))
            assert [one.reason for one in await swarm.map(odd)] == [Failure.MALFORMED] * len(odd)
            with pytest.raises(JobFailed):
                await swarm.complete(odd[0])
            assert isinstance(await swarm.complete("a", budget_msat=Msat(0)), Answer)
            for bounds in ({"budget_msat": 2**70}, {"priority": -(2**70)}):
                with pytest.raises(ValueError, match="64 bits"):
                    await swarm.map(["one"], **bounds)
            [there, large] = await swarm.map(["one", "a longer text than a call holds " * 2**19])
            assert isinstance(there, Answer) and large.reason is Failure.TOO_LARGE
            with pytest.raises(TypeError, match="complete"):
                await swarm.map("one")
            assert len(await swarm.map(["one"], deadline_s=float("inf"))) == 1
            with pytest.raises(UsageError, match="already open"):
                await swarm.__aenter__()


async def test_closing_in_the_middle_takes_the_questions_back_and_tells_whoever_waits(tmp_path, monkeypatch):
    async with AsyncExitStack() as stack:
        await served(stack, tmp_path, monkeypatch, PYLON_INFERENCE__INSTANT_DELAY_S="0.2")
        swarm = await asyncio.to_thread(NodeSwarm)
        heard = []
        questions = (f"line {n}" for n in range(500))
        asking = asyncio.create_task(
            asyncio.to_thread(swarm.map, questions, on_outcome=lambda *one: heard.append(one))
        )
        async with asyncio.timeout(60):
            await until(lambda: heard, within_s=60)
            await asyncio.to_thread(swarm.close)
            with pytest.raises(UnreachableError, match="closed"):
                await asking
        async with asyncio.timeout(60):
            while True:
                _, listed, _ = await programs.run("jobs", "-n", "1000", env={**os.environ})
                states = [job["state"] for job in listed["jobs"]]
                if "queued" not in states:
                    break
                await asyncio.sleep(0.1)
        assert "cancelled" in states and len(states) < 500


async def test_what_a_caller_s_function_raises_ends_the_run_and_the_node_goes_on(tmp_path, monkeypatch):
    async with AsyncExitStack() as stack:
        await served(stack, tmp_path, monkeypatch)
        async with NodeSwarmClient() as swarm:
            with pytest.raises(ZeroDivisionError):
                await swarm.map(["one"] * 50, on_progress=lambda now: 1 // 0)
            with pytest.raises(UsageError, match="StopIteration"):
                await swarm.map(["one"], on_outcome=lambda *_: next(iter(())))
            for name in ("on_progress", "on_outcome"):
                with pytest.raises(TypeError, match=name):
                    await swarm.map(["one"], **{name: asyncio.sleep})
            assert (await swarm.complete("and now?")).text.startswith("stand-in answer")


async def test_where_nobody_is_a_question_waits_no_longer_than_it_has_time(tmp_path, monkeypatch):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url, PYLON_CUSTOMER__PATIENCE_S="3600")
        await programs.run("init", env=env)
        for name, value in env.items():
            if name.startswith("PYLON_"):
                monkeypatch.setenv(name, value)
        swarm = await stack.enter_async_context(NodeSwarmClient())
        async with asyncio.timeout(60):
            with pytest.raises(UnreachableError, match="0 alive"):
                await swarm.complete("who?", timeout=1.0)
        await relay.__aexit__(None, None, None)
        async with asyncio.timeout(60):
            with pytest.raises(UnreachableError):
                await swarm.complete("who?", timeout=1.0)
            with pytest.raises(UnreachableError):
                await swarm.map(["who?"], deadline_s=1.0)


@pytest.mark.parametrize("make", [NodeSwarmClient, RlmClient])
async def test_a_client_that_is_used_in_another_event_loop_than_its_own_says_so_at_once(tmp_path, monkeypatch, make):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(tmp_path / "home", relay.url)
        await programs.run("init", env=env)
        monkeypatch.setenv("PYLON_RELAYS", env["PYLON_RELAYS"])
        client = await stack.enter_async_context(make(tmp_path / "home"))

        async def elsewhere() -> None:
            with pytest.raises(UsageError, match="another event loop"):
                await (client.ask("what?", "text") if make is RlmClient else client.providers())
            with pytest.raises(UsageError, match="another event loop"):
                await client.close()

        async with asyncio.timeout(60):
            await asyncio.to_thread(asyncio.run, elsewhere())
            if make is NodeSwarmClient:
                assert await client.providers(wait_s=0) == []


async def test_a_node_that_ends_in_the_middle_is_an_error_and_the_run_is_taken_up(tmp_path, monkeypatch):
    prompts = [f"line {n}" for n in range(40)]
    async with AsyncExitStack() as stack:
        node, env = await served(stack, tmp_path, monkeypatch, PYLON_INFERENCE__INSTANT_DELAY_S="0.2")
        heard: dict[int, object] = {}
        async with NodeSwarmClient() as swarm:
            asking = asyncio.create_task(swarm.map(prompts, journal=True, on_outcome=heard.__setitem__))
            await until(lambda: len(heard) >= 3, within_s=60)
            await node.kill()
            with pytest.raises(UnreachableError):
                await asking
        await programs.start(env, stack)
        async with NodeSwarmClient() as swarm:
            outcomes = await swarm.map(prompts, resume=True)
        assert all(isinstance(one, Answer) for one in outcomes) and len(outcomes) == 40
        # What was heard of before is what it was.
        kept = [outcomes[place].request_id == one.request_id for place, one in heard.items()]
        assert all(kept)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_example_runs_and_a_home_pays_within_the_budget(tmp_path, monkeypatch, capsys):
    async with AsyncExitStack() as stack:
        keeper = programs.environment(tmp_path / "relay", "ws://127.0.0.1:9")
        await programs.run("init", env=keeper)
        relay = await programs.serve("relay", "--port", "0", env=keeper, stack=stack)
        paid = {
            "PYLON_PROVIDER__PRICING": "paid",
            "PYLON_PROVIDER__BASE_MSAT": "300",
            "PYLON_CUSTOMER__BID_MSAT": "5000",
        }
        homes = {}
        for name in ("provider", "customer"):
            homes[name] = env = programs.environment(tmp_path / name, relay.hello["url"], **paid)
            await programs.run("init", env=env)
            _, made, _ = await programs.run("wallet", "link", name, env=keeper)
            assert (await programs.run("wallet", "connect", "-", env=env, stdin=made["link"].encode()))[0] == 0
        await programs.run("wallet", "faucet", "1000", "--account", "customer", env=keeper)
        await programs.start(homes["provider"], stack)
        for name in [name for name in os.environ if name.startswith("PYLON_")]:
            monkeypatch.delenv(name)
        for name, value in homes["customer"].items():
            if name.startswith("PYLON_"):
                monkeypatch.setenv(name, value)
        assert len(EXAMPLES) == 1
        await asyncio.to_thread(exec, compile(EXAMPLES[0], "docs/python-api.md", "exec"), {})
        said = capsys.readouterr().out.splitlines()[-1]
        assert re.fullmatch(r"[1-9]\d{4} msat; stand-in answer.*", said), said

        def cell():
            """In a thread that is not the main one, as all of a notebook's waiting is."""
            with NodeSwarm(homes["customer"]["PYLON_HOME"]) as swarm:
                answer = swarm.complete("and now?", budget_msat=20_000)
                few = swarm.map([f"question {n}" for n in range(60)], budget_msat=2_000)
                *pieces, last = swarm.stream("piece by piece")
                assert swarm.providers()[0]["price"]["base_msat"] == 300
            swarm.close()
            return answer, few, pieces, last

        answer, few, pieces, last = await asyncio.to_thread(cell)
        assert int(answer.paid) >= 300 and "receipt" in answer.verified
        assert pieces and last.text == pieces[-1]
        answered = [one for one in few if isinstance(one, Answer)]
        assert sum(int(one.paid) for one in answered) <= 2_000
        assert {one.reason for one in few if isinstance(one, JobFailed)} == {Failure.BUDGET}
        _, audit, _ = await programs.run("wallet", "audit", env=homes["customer"])
        assert audit["audit"] == "clean"


async def test_without_a_home_it_says_so(tmp_path):
    with pytest.raises(SetupError, match=r"config\.toml"):
        async with NodeSwarmClient(tmp_path / "nowhere"):
            pass
    with pytest.raises(SetupError):
        NodeSwarm(tmp_path / "nowhere")
