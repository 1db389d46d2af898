"""The gateway behind its real server, over sockets of this machine."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import orjson
import pytest

from pylon.errors import SetupError
from pylon.gateway import server
from pylon.gateway.server import serving
from pylon.gateway.upstream import Ended, Said
from tests.gateway.fakes import CHAT, TOKEN, FakeCore, answer, gateway_of

URL = "/v1/chat/completions"


@asynccontextmanager
async def served(core, tmp_path, **settings):
    gateway = gateway_of(core, tmp_path, **settings)
    async with asyncio.timeout(60), serving(gateway.app, "127.0.0.1", 0, connections=100) as port:
        yield gateway, port


def client(port):
    headers = {"authorization": f"Bearer {TOKEN}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)


async def raw(port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer


def request(body, length=None):
    head = f"POST {URL} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
    return f"{head}content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body


async def until(found):
    while not found():
        await asyncio.sleep(0.01)


async def test_requests_are_answered_over_a_socket(tmp_path):
    core = FakeCore(lambda _: [Said("a"), Ended(answer("a b"))])
    async with served(core, tmp_path) as (_, port), client(port) as http:
        whole = await http.post(URL, json=CHAT)
        assert whole.json()["choices"][0]["message"]["content"] == "a b" and "server" not in whole.headers
        async with http.stream("POST", URL, json={**CHAT, "stream": True}) as response:
            lines = [line async for line in response.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_before_the_answer_cancels_its_job(tmp_path, stream):
    core = FakeCore(lambda _: [asyncio.Event(), Ended(answer())])
    async with served(core, tmp_path) as (gateway, port):
        _, writer = await raw(port, request(orjson.dumps({**CHAT, "stream": stream})))
        await until(lambda: core.under_way)
        writer.close()
        await until(lambda: not core.under_way)
        assert core.cancelled == 1
        await until(lambda: not gateway.asks.tally.in_flight)
        assert gateway.asks.tally.outcomes == {"cancelled": 1}


async def test_a_client_that_hangs_up_within_a_stream_cancels_its_job(tmp_path):
    core = FakeCore(lambda _: [Said("a"), asyncio.Event(), Ended(answer())])
    async with served(core, tmp_path) as (gateway, port):
        reader, writer = await raw(port, request(orjson.dumps({**CHAT, "stream": True})))
        await reader.readuntil(b'"content":"a"')
        assert core.under_way
        writer.close()
        await until(lambda: not core.under_way)
        await until(lambda: not gateway.asks.tally.in_flight)
        assert core.cancelled == 1


async def test_a_paid_question_that_is_left_counts_with_all_it_may_cost(tmp_path):
    core = FakeCore(lambda _: [asyncio.Event(), Ended(answer())], bid=10)
    async with served(core, tmp_path, most_msat=100) as (gateway, port):
        _, writer = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: core.under_way)
        writer.close()
        await until(lambda: not gateway.asks.tally.in_flight)
        assert (gateway.asks.budget.spent, gateway.asks.budget.held) == (0, 0)
    # Free providers cost nothing, whatever the bid.
    core.seen["providers"][0]["price_msat"] = [10, 0, 0]
    async with served(core, tmp_path, most_msat=100) as (gateway, port):
        _, writer = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: core.under_way)
        writer.close()
        await until(lambda: not gateway.asks.tally.in_flight)
        assert (gateway.asks.budget.spent, gateway.asks.budget.held) == (20, 0)


async def test_a_question_that_waits_for_money_is_left_when_its_client_hangs_up(tmp_path):
    core = FakeCore(lambda _: [asyncio.Event(), Ended(answer())], bid=10)
    core.seen["providers"][0]["price_msat"] = [10, 0, 0]
    async with served(core, tmp_path, most_msat=10) as (gateway, port):
        _, first = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: core.under_way)
        _, second = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: gateway.asks.tally.in_flight == 2)
        second.close()
        await until(lambda: gateway.asks.tally.in_flight == 1)
        assert len(core.asked) == 1 and gateway.asks.budget.held == 10
        first.close()


async def test_whoever_sends_no_whole_head_is_let_go_of(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "HEAD_S", 0.1)
    async with served(FakeCore(), tmp_path) as (_, port):
        reader, writer = await raw(port, b"")
        assert await reader.read() == b""
        writer.close()
        reader, writer = await raw(port, b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: ")
        assert await reader.read() == b""
        writer.close()
        # The second request of a connection as well.
        reader, writer = await raw(port, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"GET /health HTTP/1.1\r\n")
        assert await reader.read() == b""
        writer.close()


async def test_an_answer_may_take_longer_than_a_head(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "HEAD_S", 0.05)
    go = asyncio.Event()
    core = FakeCore(lambda _: [go, Ended(answer("late"))])
    async with served(core, tmp_path) as (_, port), client(port) as http:
        asking = asyncio.create_task(http.post(URL, json=CHAT))
        await until(lambda: core.under_way)
        await asyncio.sleep(0.2)
        go.set()
        assert (await asking).status_code == 200


async def test_a_body_that_ends_early_is_no_question(tmp_path):
    core = FakeCore()
    async with served(core, tmp_path) as (_, port):
        _, writer = await raw(port, request(b'{"mess', 100))
        await writer.drain()
        writer.close()
        reader, writer = await raw(port, b"not http at all\r\n\r\n")
        assert b"400" in await reader.readline()
        writer.close()
    assert not core.asked


async def test_a_head_without_end_is_refused(tmp_path):
    async with served(FakeCore(), tmp_path) as (_, port):
        reader, writer = await raw(port, b"GET / HTTP/1.1\r\nx: " + b"a" * 200_000)
        answered = await reader.read(20)
        assert b" 4" in answered
        writer.close()


async def test_a_port_that_is_taken_is_told(tmp_path):
    async with served(FakeCore(), tmp_path) as (gateway, port):
        with pytest.raises(SetupError, match="nothing can listen"):
            async with serving(gateway.app, "127.0.0.1", port, connections=10):
                pass
