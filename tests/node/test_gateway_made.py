"""How a home's gateway is made."""

import asyncio
from pathlib import Path

import pytest

from pylon import config as settings
from pylon.gateway.upstream import Begun, Ended, Said, SilentCoreError
from pylon.node import gateway
from pylon.node.calls.protocol import Event, Result
from pylon.node.calls.server import ControlServer
from pylon.node.gateway import GatewayCore, make_gateway
from pylon.node.home import Home
from tests.gateway.fakes import CHAT, answer, client_of, listing
from tests.waiting import pass_time, until


@pytest.mark.parametrize(("host", "told"), [("127.0.0.1", True), ("0.0.0.0", False)])
async def test_this_machine_alone_is_told_where_the_token_lies(tmp_path, monkeypatch, host, told):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    home = Home(tmp_path / ".pylon")
    home.create()
    config = settings.parse({})
    made = make_gateway(GatewayCore(home, config), home, config, host=host, sats=None, token=True)
    async with client_of(made, token=None) as client:
        html = (await client.get("/")).text
    assert ("~/.pylon/play/gateway-token" in html) is told
    assert str(tmp_path) not in html


class HangingNode:
    """A fake node behind the control socket, which has no word for what `hangs` names, and answers after `late_s`."""

    def __init__(self, *hangs: str) -> None:
        self.hangs = set(hangs)
        self.late_s = 0.0
        self.called: list[str] = []

    async def offer(self, path: Path) -> ControlServer:
        server = ControlServer(path, {name: self._method(name) for name in ("ping", "status", "providers", "ask")})
        await server.start()
        return server

    def _method(self, name):
        seen = {"providers": [listing()], "bid_msat": 0, "caught_up": True, "heard_of": 1}
        says = {"status": {"provider": None}, "providers": seen, "ask": answer("there again")}

        async def method(params):
            self.called.append(name)
            if name in self.hangs:
                await asyncio.Event().wait()
            if params.get("stream"):
                yield Event({"text": "there"})
            if name == "ask":
                await asyncio.sleep(self.late_s)
            yield Result(says.get(name, {}))

        return method


async def hanging(tmp_path, *hangs):
    home = Home(tmp_path / "home")
    home.create()
    node = HangingNode(*hangs)
    server = await node.offer(home.socket)
    config = settings.parse({"customer": {"patience_s": 0.1, "timeout_s": 0.2}})
    return node, server, home, config


@pytest.mark.parametrize(("call", "stream"), [("providers", False), ("ask", False), ("ask", True)])
async def test_a_node_that_hangs_is_a_504_for_all_who_wait_and_answers_once_it_is_back(
    tmp_path, monkeypatch, call, stream
):
    node, server, home, config = await hanging(tmp_path, call)
    core = GatewayCore(home, config)
    made = make_gateway(core, home, config, host="127.0.0.1", sats=None, token=False)
    async with client_of(made, token=None) as client:
        body = {**CHAT, "stream": stream}
        asking = [asyncio.create_task(client.post("/v1/chat/completions", json=body)) for _ in range(20)]
        calls = 1 if call == "providers" else 20
        await until(lambda: made.asks.tally.in_flight == 20 and node.called.count(call) >= calls)
        pass_time(monkeypatch, 2 * gateway.ANSWERS_S)
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*asking)
        assert {one.status_code for one in answers} == {504}
        assert {one.json()["error"]["code"] for one in answers} == {"node_silent"}
        assert {one.json()["error"]["type"] for one in answers} == {"timeout"}
        assert node.called.count(call) == calls
        assert made.asks.budget.held == 0
        node.hangs.clear()
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    await made.asks.close()
    await core.close()
    await server.close()


async def test_a_node_that_hangs_from_the_first_word_on_is_waited_for_so_long_and_by_all_at_once(
    tmp_path, monkeypatch
):
    node, server, home, config = await hanging(tmp_path, "ping")
    core = GatewayCore(home, config)
    trying = [asyncio.create_task(core.result("status")) for _ in range(200)]
    await until(lambda: node.called)
    pass_time(monkeypatch, gateway.OPENS_S)
    async with asyncio.timeout(20):
        tried = await asyncio.gather(*trying, return_exceptions=True)
    assert {type(one) for one in tried} == {SilentCoreError}
    await core.close()
    await server.close()


async def test_a_job_has_its_time_twice_for_a_provider_that_is_loading_and_for_its_answer(tmp_path, monkeypatch):
    node, server, home, config = await hanging(tmp_path)
    core = GatewayCore(home, config)
    heard = core.ask({"prompt": "a", "timeout": 20.0}, reservation="r", budget_msat=0, stream=False)
    # Nearly all of it, so that once would not do.
    node.late_s = gateway.ANSWERS_S + 30.0
    assert await anext(heard) == Begun()
    answering = asyncio.create_task(anext(heard))
    await until(lambda: "ask" in node.called)
    pass_time(monkeypatch, node.late_s)
    assert type(await answering) is Ended
    await heard.aclose()
    await core.close()
    await server.close()


async def test_whoever_reads_a_stream_slowly_is_no_fault_of_the_node(tmp_path, monkeypatch):
    _, server, home, config = await hanging(tmp_path)
    core = GatewayCore(home, config)
    heard = core.ask({"prompt": "a"}, reservation="r", budget_msat=0, stream=True)
    assert [await anext(heard), await anext(heard)] == [Begun(), Said("there")]
    pass_time(monkeypatch, 1_000)
    await asyncio.sleep(0.1)
    assert isinstance(await anext(heard), Ended)
    await heard.aclose()
    await core.close()
    await server.close()
