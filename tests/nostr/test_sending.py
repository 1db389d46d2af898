"""Frames to a peer that does not read for a while."""

import asyncio
from contextlib import asynccontextmanager

import orjson
from websockets.asyncio.server import serve

from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from tests.waiting import until

KEY = SecretKey(bytes(31) + b"\x07")
LARGE = "x" * 250_000


def large(number: int) -> Event:
    return KEY.sign(EventDraft(1, f"{number}:{LARGE}"))


class Absent:
    """A relay that reads nothing until `back` is set, and then accepts everything."""

    def __init__(self) -> None:
        self.back = asyncio.Event()
        self.heard: list[list[object]] = []
        self.url = ""

    @asynccontextmanager
    async def open(self):
        async with serve(self._serve, "127.0.0.1", 0, max_size=None) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            connection = RelayConnection(self.url)
            connection.start()
            assert await connection.wait_open(10)
            yield connection
            await connection.close()

    async def _serve(self, socket) -> None:
        await self.back.wait()
        async for frame in socket:
            message = orjson.loads(frame)
            self.heard.append(message)
            if message[0] == "EVENT":
                await socket.send(orjson.dumps(["OK", message[1]["id"], True, ""]).decode())


async def test_what_a_relay_does_not_read_waits_its_turn_and_arrives_whole():
    relay = Absent()
    async with relay.open() as connection:
        events = [large(n) for n in range(60)]
        publishing = [asyncio.create_task(connection.publish(event, timeout=30)) for event in events]
        # So much does not fit between two sockets: some of it waits here.
        await until(lambda: connection._sender.socket.transport.get_write_buffer_size())
        name = connection.subscribe(lambda: (Filter(),), asyncio.Queue().put)
        relay.back.set()
        assert [ok.accepted for ok in await asyncio.gather(*publishing)] == [True] * len(events)
        assert [message[1]["id"] for message in relay.heard if message[0] == "EVENT"] == [e.id for e in events]
        await until(lambda: ["REQ", name, {}] in relay.heard)
