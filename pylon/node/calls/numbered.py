"""Numbered calls: many over one connection of the control socket, each with an id that the client chooses.

    → {"id": 7, "call": "ask", "params": {…}, "window": 32}
    ← {"id": 7, "event": {…}}             any number
    → {"read": 7, "lines": 16}            16 more lines may be sent to call 7
    ← {"id": 7, "result": {…}}            or {"id": 7, "error": {…}}
    → {"cancel": 8}                       cancels call 8; no more answers to it come

A connection for each call would take an open file each, of which macOS allows a process 256 by default, and at most
128 may wait there until they are accepted. Hanging up cancels all calls.

A client that leaves a call's answers unread would have to keep them, or stop reading and so hold up its other calls.
With a `window`, the node sends at most so many lines of that call before the client says that it read some, and the
call itself waits. Without one it waits for nothing but the connection.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from pylon.errors import UsageError
from pylon.node.calls import long_lists
from pylon.node.calls.long_lists import FOLLOWS, Piece, Put
from pylon.node.calls.params import whole
from pylon.node.calls.protocol import error_line
from pylon.tasks import end

type Send = Callable[[dict[str, Any]], Awaitable[None]]
type Run = Callable[[dict[str, Any], Send], Awaitable[None]]

MOST_CALLS = 10_000


class Window:
    """How many more lines a client takes of one call; any number if `lines` is None."""

    def __init__(self, lines: int | None = None) -> None:
        self._lines = lines
        self._opened = asyncio.Event()

    def open(self, lines: int) -> None:
        """The client takes so many more."""
        if self._lines is not None and lines > 0:
            self._lines += lines
            self._opened.set()

    async def take(self) -> None:
        """Takes one line's place, and waits until there is one. Only one may wait at a time."""
        if self._lines is None:
            return
        while not self._lines:
            self._opened.clear()
            await self._opened.wait()
        self._lines -= 1


@dataclass(slots=True)
class _Call:
    """What is sent to a call after its first line."""

    window: Window = field(default_factory=Window)
    # The pieces of the list that follows it, while it takes any.
    pieces: asyncio.Queue[Piece] | None = None


class NumberedCalls:
    """The calls of one connection. `run` makes a call, and `put` sends a line; `begin` and `end` are called when each
    begins and ends."""

    def __init__(self, run: Run, put: Put, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._run = run
        self._put = put
        self._begin = begin
        self._end = end
        self._calls: dict[int, _Call] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self, request: dict[str, Any], reader: asyncio.StreamReader) -> None:
        """Serves `request` and all that follow, until the client hangs up, or sends what is no line of a numbered
        call. Raises `UsageError` for a line that is too long."""
        size = 0
        try:
            while self._take(request, size):
                line = await long_lists.read_line(reader)
                if not line:
                    return
                size = len(line)
                try:
                    request = orjson.loads(line)
                except orjson.JSONDecodeError:
                    return
        finally:
            await end(*self._tasks.values(), expected=(ConnectionError,))

    def _take(self, request: Any, size: int) -> bool:
        """Begins a call, or passes on to one what was sent to it; a call that has ended meanwhile needs it no more.
        Returns whether the request was one of these. `size` is that of its line in bytes."""
        match request:
            case {"cancel": int(number)}:
                if number in self._tasks:
                    self._tasks[number].cancel()
            case {"read": int(number), "lines": int(lines)}:
                if number in self._calls:
                    self._calls[number].window.open(lines)
            case {"id": int(number), "rows": list(rows)}:
                if number in self._calls and (pieces := self._calls[number].pieces) is not None:
                    pieces.put_nowait(Piece(rows, size))
            case {"id": int(number)} if number not in self._calls:
                self._begin()
                self._calls[number] = call = _Call()
                answering = self._answer(request, call)
                # Started eagerly: a call that is cancelled before its first step would not even name its reservation.
                task = asyncio.Task(answering, loop=asyncio.get_running_loop(), eager_start=True)
                self._tasks[number] = task
                task.add_done_callback(partial(self._ended, number))
            case _:
                return False
        return True

    async def _answer(self, request: dict[str, Any], call: _Call) -> None:
        async def put(line: bytes) -> None:
            await call.window.take()
            await self._put(line)

        async def send(answer: dict[str, Any]) -> None:
            await long_lists.write_answer(put, {"id": request["id"], **answer}, request)

        try:
            if len(self._calls) > MOST_CALLS:
                raise UsageError(
                    f"a connection carries at most {MOST_CALLS:,} calls at once", hint="Wait until one of them ends."
                )
            call.window = Window(whole(request, "window", None, low=1))
            if FOLLOWS in request:
                call.pieces = asyncio.Queue()
                await long_lists.read_into(request, call.pieces.get)
                call.pieces = None
        except TimeoutError:
            await send(
                error_line(UsageError(f"no piece of this call's list came for {long_lists.SILENCE_S:g} seconds"))
            )
        except UsageError as error:
            await send(error_line(error))
        else:
            await self._run(request, send)

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        del self._calls[number], self._tasks[number]
        self._end()
        if not task.cancelled():
            # Marks the error as seen. It was a broken connection, which ends the reading of requests too.
            task.exception()
