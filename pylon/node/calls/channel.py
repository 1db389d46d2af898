"""One connection to the core of another process, for all calls of a program (see `numbered`)."""

import asyncio
import itertools
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from pylon.errors import PylonError, UnreachableError
from pylon.node.calls import long_lists
from pylon.node.calls.client import connect, hang_up, in_time, node_ended
from pylon.node.calls.long_lists import FOLLOWS, Piece
from pylon.node.calls.numbered import MOST_CALLS
from pylon.node.calls.protocol import Answers, Result, answer_in
from pylon.tasks import end

# A node sends at most so many lines of a call that its reader has left unread.
WINDOW = 32


class Channel:
    """A `Node`, and an async context manager, for one event loop.

    When the node ends, the calls in progress raise `UnreachableError`: whether they can be made again, their caller
    knows. The next call connects anew. If there are more calls at once than a node takes, the rest wait.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[PylonError | None] | None = None
        self._room = asyncio.Semaphore(MOST_CALLS)
        self._closed = False

    async def __aenter__(self) -> Self:
        """Connects. Raises `UnreachableError` when nobody listens, and `NodeSilentError`."""
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        await end(self._connecting)
        if self._connection is not None:
            await self._connection.close()

    @property
    def connected(self) -> bool:
        """Whether the node is there, as far as is known."""
        return self._connection is not None and not self._connection.over

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Answers:
        """See `Node`. Raises `NodeSilentError` as `RemoteNode` does. Does not wait before it sends the call, if it is
        connected and has room."""
        async with self._room:
            connection = await self._connected()
            async with aclosing(connection.call(method, params or {})) as answers:
                async for answer in answers:
                    yield answer

    async def _connected(self) -> "_Connection":
        while self._connection is None or self._connection.over:
            if self._closed:
                raise _closed()
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect(), name="connecting to the core")
            # All calls wait for one attempt, which goes on when one of them is cancelled.
            attempt = self._connecting
            await asyncio.wait({attempt})
            if not attempt.cancelled() and (error := attempt.result()) is not None:
                raise error
        return self._connection

    async def _connect(self) -> PylonError | None:
        """Connects, or returns why that failed."""
        try:
            self._connection = _Connection(*await connect(self._path))
        except PylonError as error:
            return error
        finally:
            self._connecting = None
        return None


class _Call:
    """The lines of a call that came and were not read yet; None after the last of a node that ended."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        # How many were read since the node was told.
        self.read = 0
        # Whether the node has it to do.
        self.made = False


class _Connection:
    """The connection as long as it lasts. `over` tells that it has ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.over = False
        self._closed = False
        self._writer = writer
        self._put = long_lists.put_to(writer)
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._reading = asyncio.create_task(self._read(reader), name="answers of the core")

    async def close(self) -> None:
        """Hangs up, which cancels all calls."""
        self._closed = True
        await end(self._reading)
        await hang_up(self._writer)

    async def call(self, method: str, params: dict[str, Any]) -> Answers:
        """Makes a call; see `Channel.call`."""
        number = next(self._numbers)
        self._calls[number] = call = _Call()

        async def put(line: bytes) -> None:
            call.made = True
            await self._put(line)

        async def piece() -> Piece | None:
            said = await self._next(number)
            return None if said is None else Piece(said["rows"], 0)

        try:
            request = {"id": number, "call": method, "params": params, "window": WINDOW}
            await in_time(method, long_lists.write_call(put, request), self._writer)
            while (said := await in_time(method, self._next(number), self._writer)) is not None:
                call.made = "event" in said or FOLLOWS in said
                answer = answer_in(said)
                if FOLLOWS in said:
                    answer.data[said[FOLLOWS]] = await long_lists.read(piece)
                    call.made = False
                yield answer
                if isinstance(answer, Result):
                    return
            raise self._ended()
        except ConnectionError as error:
            raise self._ended() from error
        finally:
            del self._calls[number]
            if call.made:
                self._say({"cancel": number})

    async def _next(self, number: int) -> dict[str, Any] | None:
        call = self._calls[number]
        said = await call.lines.get()
        call.read += 1
        if call.read >= WINDOW // 2:
            self._say({"read": number, "lines": call.read})
            call.read = 0
        return said

    def _ended(self) -> UnreachableError:
        return _closed() if self._closed else node_ended()

    def _say(self, line: dict[str, Any]) -> None:
        # Not waited for: a call may be ending because its own task is cancelled.
        if not self.over:
            with suppress(ConnectionError):
                self._writer.write(long_lists.line_of(line))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                said = orjson.loads(line)
                # An answer to a call that has been cancelled meanwhile is dropped.
                if (call := self._calls.get(said["id"])) is not None:
                    call.lines.put_nowait(said)
        except (ConnectionError, ValueError, KeyError, TypeError):
            # The core is gone, or sends what no core of this version would.
            pass
        finally:
            self.over = True
            for call in self._calls.values():
                call.lines.put_nowait(None)
            self._writer.transport.abort()


def _closed() -> UnreachableError:
    return UnreachableError("the connection to the node was closed in this program")
