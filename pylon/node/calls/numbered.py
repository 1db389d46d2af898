"""Numbered calls: many over one connection of the control socket, each with an id that the client chooses.

    → {"id": 7, "call": "ask", "params": {…}}
    ← {"id": 7, "event": {…}}             any number
    ← {"id": 7, "result": {…}}            or {"id": 7, "error": {…}}
    → {"cancel": 8}                       cancels call 8; no more answers to it come

A connection for each call would take an open file each, and macOS allows a process 256 by default. Hanging up cancels
all calls.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson

from pylon.node.calls.long_lists import read_line
from pylon.tasks import end

type Send = Callable[[dict[str, Any]], Awaitable[None]]
type Run = Callable[[dict[str, Any], Send], Awaitable[None]]

MOST_CALLS = 10_000


class NumberedCalls:
    """The calls of one connection. `run` makes a call; `begin` and `end` are called when each begins and ends."""

    def __init__(self, run: Run, send: Send, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._run = run
        self._send = send
        self._begin = begin
        self._end = end
        self._calls: dict[int, asyncio.Task[None]] = {}

    async def serve(self, request: dict[str, Any], reader: asyncio.StreamReader) -> None:
        """Serves `request` and all that follow, until the client hangs up, or sends anything but a new call or a
        cancellation. Raises `UsageError` for a line that is too long."""
        try:
            while self._take(request):
                line = await read_line(reader)
                if not line:
                    return
                try:
                    request = orjson.loads(line)
                except orjson.JSONDecodeError:
                    return
        finally:
            await end(*self._calls.values(), expected=(ConnectionError,))

    def _take(self, request: Any) -> bool:
        """Begins or cancels a call. Returns whether the request was one of these."""
        match request:
            case {"cancel": int(number)}:
                if number in self._calls:
                    self._calls[number].cancel()
            case {"id": int(number)} if number not in self._calls and len(self._calls) < MOST_CALLS:
                self._begin()
                # Started eagerly: a call that is cancelled before its first step would not even name its reservation.
                call = asyncio.Task(self._answer(number, request), loop=asyncio.get_running_loop(), eager_start=True)
                self._calls[number] = call
                call.add_done_callback(partial(self._ended, number))
            case _:
                return False
        return True

    async def _answer(self, number: int, request: dict[str, Any]) -> None:
        async def send(line: dict[str, Any]) -> None:
            await self._send({"id": number, **line})

        await self._run(request, send)

    def _ended(self, number: int, call: asyncio.Task[None]) -> None:
        del self._calls[number]
        self._end()
        if not call.cancelled():
            # Marks the error as seen. It was a broken connection, which ends the reading of requests too.
            call.exception()
