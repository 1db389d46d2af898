"""A relay that does what a test tells it: for the misbehaviour that a real one does not offer."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve

type Answer = Callable[["ScriptedRelay", ServerConnection, list[Any]], Any]


def polite(relay: "ScriptedRelay", socket: ServerConnection, message: list[Any]) -> list[list[Any]]:
    """Accepts every event, and has none stored."""
    match message:
        case ["EVENT", event]:
            return [["OK", event["id"], True, ""]]
        case ["REQ", name, *_]:
            return [["EOSE", name]]
    return []


class ScriptedRelay:
    """`answer` gives the messages to send back for one that came."""

    def __init__(self, answer: Answer = polite, greeting: list[Any] | None = None) -> None:
        self.answer = answer
        self.greeting = greeting
        self.received: list[list[Any]] = []
        self.sockets: list[ServerConnection] = []
        self.connections = 0
        self._server: Server | None = None
        self._port = 0
        self.changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    async def __aenter__(self) -> "ScriptedRelay":
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def up(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self._port)
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def down(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def say(self, message: list[Any] | str) -> None:
        for socket in self.sockets:
            await socket.send(message if isinstance(message, str) else orjson.dumps(message).decode())

    def of(self, kind: str) -> list[list[Any]]:
        return [message for message in self.received if message[0] == kind]

    async def until(self, condition: Callable[[], Any], timeout: float = 10.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def _serve(self, socket: ServerConnection) -> None:
        self.connections += 1
        self.sockets.append(socket)
        self.changed.set()
        try:
            if self.greeting is not None:
                await socket.send(orjson.dumps(self.greeting).decode())
            async for frame in socket:
                message = orjson.loads(frame)
                self.received.append(message)
                self.changed.set()
                for answer in self.answer(self, socket, message) or []:
                    await socket.send(orjson.dumps(answer).decode())
        finally:
            self.sockets.remove(socket)
