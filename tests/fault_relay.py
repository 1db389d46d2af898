"""A relay with faults: a proxy in front of a real one that loses, delays, doubles, shuffles, forges, hangs up, and
says OK to what it then throws away.

What it does to an event that the relay pushes is decided by `Faults`, and by nothing but the event and a seed, so
that a run can be repeated. Stored events that were asked for (before EOSE) pass untouched unless `stored` says so.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@dataclass
class Faults:
    """Shares are of live events, 0 to 1; `swallow` is of those that are published. `only` limits all of them to some
    events."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_s: float = 0.5
    reorder: float = 0.0
    forge: float = 0.0
    hang_up: float = 0.0
    swallow: float = 0.0
    stored: bool = False
    only: Callable[[dict[str, Any]], bool] = lambda event: True


@dataclass
class FaultRelay:
    """An async context manager; `url` is where it listens. `counted` says how often each fault was done."""

    upstream: str
    faults: Faults
    seed: int = 1
    url: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    _server: Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._rng = random.Random(self.seed)
        self._server = await serve(self._client, "127.0.0.1", 0, max_size=None, compression=None)
        self.url = f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _client(self, client: ServerConnection) -> None:
        async with connect(self.upstream, max_size=None, compression=None) as relay:
            up = asyncio.create_task(self._up(client, relay))
            try:
                await self._down(client, relay)
            finally:
                up.cancel()

    async def _up(self, client: ServerConnection, relay: Any) -> None:
        try:
            async for message in client:
                said = orjson.loads(message) if self.faults.swallow else [""]
                if said[0] == "EVENT" and self.faults.only(said[1]) and self._does("swallow"):
                    await client.send(orjson.dumps(["OK", said[1]["id"], True, ""]).decode())
                else:
                    await relay.send(message)
        except ConnectionClosed:
            pass
        await relay.close()

    async def _down(self, client: ServerConnection, relay: Any) -> None:
        caught_up: set[str] = set()
        held: list[str] = []
        try:
            async for message in relay:
                said = orjson.loads(message)
                if said[0] == "EOSE":
                    caught_up.add(said[1])
                live = said[0] == "EVENT" and (self.faults.stored or said[1] in caught_up)
                if not live or not self.faults.only(said[2]):
                    await client.send(message)
                    continue
                if self._does("hang_up"):
                    await client.close()
                    return
                for out in self._event(said, message, held):
                    self._push(client, out)
        except ConnectionClosed:
            pass

    def _event(self, said: list[Any], message: str, held: list[str]) -> list[str]:
        """What is sent in place of an event, now."""
        if self._does("drop"):
            return []
        if self._does("forge"):
            signature = said[2]["sig"]
            said[2]["sig"] = ("0" if signature[0] != "0" else "1") + signature[1:]
            message = orjson.dumps(said).decode()
        if self._does("reorder"):
            held.append(message)
            return []
        out = [message, *held]
        held.clear()
        return [*out, message] if self._does("duplicate") else out

    def _push(self, client: ServerConnection, message: str) -> None:
        wait_s = self.faults.delay_s if self._does("delay") else 0.0

        async def send() -> None:
            await asyncio.sleep(wait_s)
            with suppress(ConnectionClosed):
                await client.send(message)

        task = asyncio.create_task(send())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _does(self, fault: str) -> bool:
        if self._rng.random() >= getattr(self.faults, fault):
            return False
        self.counted[fault] = self.counted.get(fault, 0) + 1
        return True
