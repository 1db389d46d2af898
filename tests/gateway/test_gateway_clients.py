"""Real clients, a real gateway, a real node and a real relay; the stand-in engine answers."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import openai
import orjson
import pytest

from pylon import config as settings
from pylon.errors import UnreachableError
from pylon.gateway import completions, problems
from pylon.gateway.server import serving
from pylon.gateway.upstream import Begun, Ended, Said
from pylon.node import identity
from pylon.node.core import Core
from pylon.node.gateway import GatewayCore, make_gateway
from pylon.node.home import Home
from pylon.relay.server import RelayServer
from tests.gateway.fakes import CHAT, TOKEN, FakeCore, answer, failure, gateway_of


def configured(url, **sections):
    quick = {"patience_s": 2.0}
    return settings.parse({"relays": [url], "inference": {"engine": "instant"}, "customer": quick, **sections})


def moved_in(root):
    home = Home(root)
    home.create()
    identity.create(home.identity_file)
    return home


@asynccontextmanager
async def swarm(tmp_path, *, providers=1, beside=False, sats=None, delay_s=0.0):
    """A gateway's address and key. With `beside` a node of its home runs, and it asks through that one's socket."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        config = configured(relay.url, inference={"engine": "instant", "instant_delay_s": delay_s})
        for number in range(providers):
            home = moved_in(tmp_path / f"p{number}")
            await stack.enter_async_context(Core(home, config, serve=True))
        home = moved_in(tmp_path / "g")
        if beside:
            await stack.enter_async_context(Core(home, config, serve=False))
        core = GatewayCore(home, config)
        stack.push_async_callback(core.close)
        made = make_gateway(core, home, config, host="127.0.0.1", sats=sats, token=True)
        port = await stack.enter_async_context(serving(made.app, "127.0.0.1", 0, connections=4_000))
        # The inference children report ready within a moment.
        async with asyncio.timeout(60):
            while sum(row["state"] == "ready" for row in (await made.view.providers(0))["providers"]) < providers:
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", (home.folder / "gateway-token").read_text().strip()


@pytest.mark.timeout(180)
async def test_openai_s_own_client_asks_streams_and_lists(tmp_path):
    async with swarm(tmp_path, beside=True) as (url, key):
        async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
            models = [model.id async for model in client.models.list()]
            assert models == ["any", "default", "stand-in-instant"]
            said = await client.chat.completions.create(
                model="any", messages=[{"role": "user", "content": "hello"}], temperature=0, seed=1, max_tokens=50
            )
            assert said.choices[0].message.content.endswith(": hello") and said.usage.total_tokens > 0
            assert said.model == "stand-in-instant" and said.model_extra["pylon"]["attempts"] == 1
            stream = await client.chat.completions.create(
                model="stand-in-instant", messages=[{"role": "user", "content": "hello"}], stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            chunks = [chunk async for chunk in stream]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert text.endswith(": hello") and chunks[-1].usage.total_tokens > 0
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model="any", messages=[{"role": "user", "content": "q"}], n=2)
            assert caught.value.param == "n" and caught.value.code == "unsupported_value"
            with pytest.raises(openai.NotFoundError) as missing:
                await client.chat.completions.create(model="none", messages=[{"role": "user", "content": "q"}])
            assert missing.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError) as long:
                await client.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": "q"}], max_tokens=900_000
                )
            assert (long.value.code, long.value.param) == ("context_length_exceeded", "max_tokens")
            with pytest.raises(openai.NotFoundError, match="POST /v1/chat/completions"):
                await client.responses.create(model="any", input="q")
        async with openai.AsyncOpenAI(base_url=url, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()


@pytest.mark.timeout(180)
async def test_a_stream_comes_in_pieces_that_make_the_answer(tmp_path):
    async with swarm(tmp_path, delay_s=4.0) as (url, key), openai.AsyncOpenAI(base_url=url, api_key=key) as client:
        stream = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Tell a story of a lighthouse"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
        pieces = [text for chunk in chunks if chunk.choices and (text := chunk.choices[0].delta.content)]
        text = "".join(pieces)
        assert text.startswith("stand-in answer") and text.endswith(": Tell a story of a lighthouse")
        assert len(pieces) > 2, "more than a beginning and the rest"


@pytest.mark.timeout(180)
async def test_one_call_of_openai_s_client_is_one_request_and_a_pause_within_a_stream_is_no_word(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(completions, "BEAT_S", 0.01)
    core, says = FakeCore(), [Said("he"), Ended(answer("hello"))]

    async def paused(job, **_):
        yield Begun()
        for one in says:
            await asyncio.sleep(0.1)
            yield one

    async with AsyncExitStack() as stack:
        made = gateway_of(core, tmp_path)
        port = await stack.enter_async_context(serving(made.app, "127.0.0.1", 0, connections=10))
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=TOKEN)
        asked = await stack.enter_async_context(client)
        core.says = lambda _: [Ended(failure("deadline"))]
        with pytest.raises(openai.InternalServerError):
            await asked.chat.completions.create(**CHAT)
        assert len(core.asked) == 1
        core.says = lambda _: [Ended(failure("refused", "busy"))]
        monkeypatch.setattr(problems, "RETRY_S", 1)
        with pytest.raises(openai.InternalServerError):
            await asked.chat.completions.create(**CHAT)
        assert len(core.asked) == 4
        monkeypatch.setattr(core, "ask", paused)
        chunks = [chunk async for chunk in await asked.chat.completions.create(**CHAT, stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello"


@pytest.mark.timeout(180)
async def test_the_paper_s_engine_sends_its_calls_here(tmp_path):
    from rlm.clients.openai import OpenAIClient

    async with swarm(tmp_path) as (url, key):
        # It knows no event loop: its calls wait in a thread of their own.
        client = OpenAIClient(api_key=key, base_url=url, model_name="any")
        one = await asyncio.to_thread(client.completion, [{"role": "user", "content": "hello"}])
        assert one.endswith(": hello")
        usage = client.get_last_usage()
        assert usage.total_input_tokens > 0 and usage.total_output_tokens > 0
        many = await asyncio.gather(*(client.acompletion(f"question {n}") for n in range(16)))
        assert [text.rsplit(" ", 1)[1] for text in many] == [str(n) for n in range(16)]


async def one_of(url, key, number):
    """A request over a connection of its own, as cheap as it can be: a thousand clients share two cores here."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    body = orjson.dumps({"model": "any", "messages": [{"role": "user", "content": f"question {number}"}]})
    head = f"POST {address.path}/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    said = await reader.read()
    writer.close()
    return said


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("beside", [False, True])
async def test_a_thousand_requests_at_once_are_all_answered_each_its_own(tmp_path, beside):
    async with swarm(tmp_path, providers=3, beside=beside) as (url, key):
        answers = await asyncio.gather(*(one_of(url, key, number) for number in range(1_000)))
    for number, said in enumerate(answers):
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), said
        assert orjson.loads(body)["choices"][0]["message"]["content"].endswith(f": question {number}")


@pytest.mark.timeout(180)
async def test_a_node_that_ends_is_replaced_by_a_core_of_its_own(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        config = configured(relay.url)
        home = moved_in(tmp_path / "g")
        core = GatewayCore(home, config)
        stack.push_async_callback(core.close)
        async with Core(home, config, serve=False) as running:
            assert (await core.result("status"))["uptime_s"] >= 0
            assert type(await core.open()).__name__ == "Channel"
            # A connection alone keeps no core from ending.
            await asyncio.wait_for(running.control.idle.wait(), 10)
        async with asyncio.timeout(20):
            while type(await core.open()).__name__ == "Channel":
                await asyncio.sleep(0.05)
        assert (await core.result("ping"))["serving"] is False


@pytest.mark.timeout(180)
async def test_a_node_that_served_finds_its_place_free_when_it_comes_back(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        config = configured(relay.url)
        home = moved_in(tmp_path / "g")
        core = GatewayCore(home, config)
        stack.push_async_callback(core.close)
        async with Core(home, config, serve=True):
            assert (await core.result("status"))["provider"] is not None
        async with asyncio.timeout(20):
            while True:
                try:
                    await core.result("ping")
                except UnreachableError as error:
                    if "is not running" in str(error):
                        break
                await asyncio.sleep(0.05)
        async with Core(home, config, serve=True):
            assert (await core.result("status"))["provider"] is not None
