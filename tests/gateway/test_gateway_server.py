"""The gateway behind its real server, over sockets of this machine."""

import asyncio
from contextlib import asynccontextmanager, suppress

import httpx
import orjson
import pytest

from pylon.errors import SetupError
from pylon.gateway import completions, connection, page, server
from pylon.gateway.server import serving
from pylon.gateway.upstream import Ended, Said
from pylon.money.msat import Msat
from pylon.money.price import Price
from tests.gateway.fakes import CHAT, TOKEN, FakeCore, answer, cost, gateway_of, listing
from tests.waiting import pass_time, until

URL = "/v1/chat/completions"


@asynccontextmanager
async def served(core, tmp_path, *, connections=100, **settings):
    gateway = gateway_of(core, tmp_path, **settings)
    async with asyncio.timeout(60), serving(gateway.app, "127.0.0.1", 0, connections=connections) as port:
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


async def test_a_body_in_chunks_of_one_byte_is_read_little_by_little(tmp_path, monkeypatch):
    read, take = [], connection.Connection.data_received
    monkeypatch.setattr(
        connection.Connection, "data_received", lambda self, data: read.append(len(data)) or take(self, data)
    )
    sent = (
        b"POST /session HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200_000
    )
    async with served(FakeCore(lambda _: [Ended(answer())]), tmp_path) as (_, port):
        reader, writer = await raw(port, sent)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()
    # As much as asyncio reads by default would take a third of a second, in which nothing else is done.
    assert max(read) <= 16 * 1024


async def test_a_paid_question_that_is_left_counts_with_what_it_cost(tmp_path):
    core = FakeCore(lambda _: [asyncio.Event(), Ended(answer())], bid=10)
    async with served(core, tmp_path, most_msat=100) as (gateway, port):
        _, writer = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: core.under_way)
        writer.close()
        await until(lambda: not gateway.asks.tally.in_flight)
        assert (gateway.asks.budget.spent, gateway.asks.budget.held) == (0, 0)
    # Free providers cost nothing, whatever the bid.
    core.seen["providers"][0]["price"] = Price(Msat(10)).rates()
    async with served(core, tmp_path, most_msat=100) as (gateway, port):
        _, writer = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: core.under_way)
        core.costs[core.reserved[-1]] = cost(7)
        writer.close()
        await until(lambda: not gateway.asks.tally.in_flight)
        await until(lambda: (gateway.asks.budget.spent, gateway.asks.budget.held) == (7, 0))


async def test_nothing_is_set_aside_for_what_our_own_machine_with_a_price_for_others_does(tmp_path):
    core = FakeCore(
        lambda _: [asyncio.Event(), Ended(answer())], bid=10, providers=[listing(price=(10, 0, 0), own=True)]
    )
    async with served(core, tmp_path, most_msat=100) as (gateway, port):
        _, writer = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: core.under_way)
        assert (core.budgets, gateway.asks.budget.held) == ([0], 0)
        writer.close()


async def test_a_question_that_waits_for_money_is_left_when_its_client_hangs_up(tmp_path):
    core = FakeCore(lambda _: [asyncio.Event(), Ended(answer())], bid=10)
    core.seen["providers"][0]["price"] = Price(Msat(10)).rates()
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
    monkeypatch.setattr(connection, "HEAD_S", 0.1)
    async with served(FakeCore(), tmp_path) as (_, port):
        reader, writer = await raw(port, b"")
        assert await reader.read() == b""
        writer.close()
        reader, writer = await raw(port, b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: ")
        assert await reader.read() == b""
        writer.close()
        # The second request of a connection as well; the first one has all the time that it needs.
        monkeypatch.setattr(connection, "HEAD_S", 20.0)
        reader, writer = await raw(port, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        monkeypatch.setattr(connection, "HEAD_S", 0.1)
        writer.write(b"GET /health HTTP/1.1\r\n")
        assert await reader.read() == b""
        writer.close()


async def test_an_answer_may_take_longer_than_a_head(tmp_path, monkeypatch):
    go = asyncio.Event()
    core = FakeCore(lambda _: [go, Ended(answer("late"))])
    async with served(core, tmp_path) as (_, port), client(port) as http:
        asking = asyncio.create_task(http.post(URL, json=CHAT))
        await until(lambda: core.under_way)
        pass_time(monkeypatch, connection.HEAD_S)
        await asyncio.sleep(0.1)
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


async def test_a_body_with_a_length_that_is_chunked_too_is_refused_with_its_connection(tmp_path):
    core = FakeCore()
    body = orjson.dumps(CHAT)
    async with served(core, tmp_path) as (_, port):
        head = request(b"", 4).removesuffix(b"\r\n\r\n") + b"\r\ntransfer-encoding: chunked\r\n\r\n"
        chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        reader, writer = await raw(port, head + chunk + b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        said = await reader.read()
        assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1") == 1 and b'"invalid_header"' in said
        writer.close()
    assert not core.asked


async def test_a_client_that_hangs_up_while_a_stream_pauses_cancels_its_job(tmp_path, monkeypatch):
    monkeypatch.setattr(completions, "BEAT_S", 0.05)
    core = FakeCore(lambda _: [Said("a"), asyncio.Event(), Ended(answer())])
    async with served(core, tmp_path) as (gateway, port):
        reader, writer = await raw(port, request(orjson.dumps({**CHAT, "stream": True})))
        await reader.readuntil(b": goes on")
        writer.close()
        await until(lambda: not core.under_way)
        await until(lambda: not gateway.asks.tally.in_flight)
        assert core.cancelled == 1 and gateway.asks.tally.outcomes == {"cancelled": 1}


async def test_a_port_that_is_taken_is_told(tmp_path):
    async with served(FakeCore(), tmp_path) as (gateway, port):
        with pytest.raises(SetupError, match="cannot listen on"):
            async with serving(gateway.app, "127.0.0.1", port, connections=10):
                pass


async def test_silent_connections_make_room_for_who_has_something_to_say(tmp_path):
    core = FakeCore(lambda _: [asyncio.Event(), Ended(answer())])
    async with served(core, tmp_path, connections=1) as (_, port), client(port) as http:
        most = 101
        # One that is answered now stays, however long it takes; it came first.
        _, asking = await raw(port, request(orjson.dumps(CHAT)))
        await until(lambda: core.under_way)
        slow = b"POST /session HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"
        held = [await raw(port, slow if number % 2 else b"") for number in range(2 * most)]
        assert (await http.get("/v1/models")).status_code == 200
        assert core.under_way == 1
        # The oldest went, the newest are there.
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                assert await held[0][0].read() == b""
        assert not held[-1][0].at_eof()
        for _, writer in (*held, (None, asking)):
            writer.close()


async def test_where_every_place_is_taken_by_who_may_ask_the_next_is_told_in_the_same_shape(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_MORE", 0)
    core = FakeCore(lambda _: [asyncio.Event(), Ended(answer())])
    async with served(core, tmp_path, connections=2) as (_, port), client(port) as http:
        asking = [(await raw(port, request(orjson.dumps(CHAT))))[1] for _ in range(2)]
        await until(lambda: core.under_way == 2)
        for _ in range(4):
            # Each over a connection of its own, of which it may not gain a place by the one before.
            _, waiting = await raw(port, b"")
            crowded = await http.get("/v1/models")
            assert crowded.status_code == 503 and crowded.json()["error"]["code"] == "busy"
            waiting.close()
        asking[0].close()
        await until(lambda: core.under_way == 1)
        await until_answered(http)
        asking[1].close()


async def until_answered(http):
    async with asyncio.timeout(10):
        while (await http.get("/v1/models")).status_code != 200:
            await asyncio.sleep(0.01)


async def test_slow_keys_hold_up_no_other(tmp_path, monkeypatch):
    async with served(FakeCore(), tmp_path) as (_, port), client(port) as http:
        head = b"POST /session HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4096\r\n\r\n"
        slow = [await raw(port, head + b"x" * 4_095) for _ in range(40)]
        assert (await http.post("/session", json={"key": TOKEN})).status_code == 200
        pass_time(monkeypatch, page.KEY_S)
        assert b" 408 " in await slow[0][0].readline()
        for _, writer in slow:
            writer.close()


BROKEN = [
    b"POST /v1/models HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    b"POST /session HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"HEAD /%ff%fe HTTP/1.1\r\nhost: \xff\r\norigin: http://[\r\n\r\n",
    b"POST /session HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n{",
]


@pytest.mark.parametrize("head", BROKEN)
@pytest.mark.parametrize("rest", [b"\x00\xffnot http\r\n\r\n", b"zz\r\n\r\n", b""])
async def test_what_strangers_send_is_no_fault_of_ours(tmp_path, head, rest, caplog):
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with served(FakeCore(), tmp_path) as (_, port), client(port) as http:
        reader, writer = await raw(port, head)
        with suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(reader.read(1), 0.3)
            writer.write(rest)
            await asyncio.wait_for(reader.read(), 0.3)
        writer.close()
        assert (await http.get("/health")).status_code == 200
    assert not faults and not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


async def test_a_server_that_fails_to_start_is_not_said_to_serve(tmp_path, monkeypatch):
    async def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(server._Server, "serve", fail)
    said = []
    with pytest.raises(ZeroDivisionError):
        async with served(FakeCore(lambda _: []), tmp_path):
            said.append("serving")
    assert not said
