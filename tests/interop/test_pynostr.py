"""A plain NIP-90 provider of pynostr's events over a bare websocket, and our customer."""

import asyncio
import sys
import time
from contextlib import asynccontextmanager

import orjson
import pytest
from pynostr.event import Event
from pynostr.key import PrivateKey
from websockets.asyncio.client import connect

from pylon.errors import UnreachableError
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.swarm.client import SwarmClient
from pylon.swarm.settings import DispatchSettings, SwarmSettings

pytestmark = pytest.mark.skipif(
    sys.platform == "darwin", reason="pynostr's key module makes a callback that macOS may refuse"
)


class PlainProvider:
    """Knows kinds 31990, 5050, 6050 and 7000 of NIP-90, and no `pylon/1`."""

    def __init__(self, url: str) -> None:
        self.key = PrivateKey()
        self.requests: list[dict] = []
        self._url = url

    @property
    def public(self) -> str:
        return self.key.public_key.hex()

    async def run(self, announced: asyncio.Event) -> None:
        async with connect(self._url) as socket:
            about = {"name": "a plain data vending machine", "about": "since 2023"}
            await self._publish(socket, 31990, orjson.dumps(about).decode(), [["d", "abc"], ["k", "5050"]])
            wanted = {"kinds": [5050], "#p": [self.public], "since": int(time.time()) - 5}
            await socket.send(orjson.dumps(["REQ", "jobs", wanted]).decode())
            async for frame in socket:
                match orjson.loads(frame):
                    case ["EVENT", "jobs", request]:
                        self.requests.append(request)
                        await self._answer(socket, request)
                    case ["EOSE", _]:
                        announced.set()

    async def _answer(self, socket, request: dict) -> None:
        about = [["e", request["id"]], ["p", request["pubkey"]]]
        prompt = next(tag[1] for tag in request["tags"] if tag[0] == "i")
        await self._publish(socket, 7000, "", [["status", "processing"], *about])
        tags = [["request", orjson.dumps(request).decode()], *about, ["i", prompt, "text"], ["amount", "0"]]
        await self._publish(socket, 6050, f"You asked: {prompt}", tags)

    async def _publish(self, socket, kind: int, content: str, tags: list[list[str]]) -> None:
        event = Event(content, self.public, int(time.time()), kind, tags)
        event.sign(self.key.hex())
        await socket.send(orjson.dumps(["EVENT", event.to_dict()]).decode())


@asynccontextmanager
async def plain_provider(url: str):
    provider, announced = PlainProvider(url), asyncio.Event()
    task = asyncio.create_task(provider.run(announced))
    try:
        await asyncio.wait_for(announced.wait(), 10)
        yield provider
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def swarm(url: str, settings: SwarmSettings):
    secret = SecretKey.generate()
    pool = RelayPool([url], secret=secret)
    pool.start()
    try:
        async with SwarmClient(pool, secret, settings=settings) as client:
            yield client
    finally:
        await pool.close()


async def test_a_plain_provider_of_pynostr_answers_our_customer(relay):
    async with plain_provider(relay.url) as provider, swarm(relay.url, SwarmSettings(plain=True)) as client:
        answer = await client.complete("How many legs has a spider?", max_tokens=16)
        assert answer.text == "You asked: How many legs has a spider?"
        assert (answer.provider, answer.usage, answer.attempts) == (provider.public, None, 1)
        tags = provider.requests[0]["tags"]
        assert ["param", "max_tokens", "16"] in tags and ["p", provider.public] in tags


async def test_many_questions_to_a_plain_provider_come_back_in_order(relay):
    async with plain_provider(relay.url), swarm(relay.url, SwarmSettings(plain=True)) as client:
        outcomes = await client.map([f"question {n}" for n in range(20)])
        assert [outcome.text for outcome in outcomes] == [f"You asked: question {n}" for n in range(20)]


async def test_a_plain_provider_is_not_asked_unless_the_customer_allows_it(relay):
    impatient = SwarmSettings(dispatch=DispatchSettings(patience_s=0.5))
    async with plain_provider(relay.url) as provider, swarm(relay.url, impatient) as client:
        with pytest.raises(UnreachableError, match="no provider can take this"):
            await client.complete("Who reads this?", timeout=1.0)
        assert provider.requests == []
