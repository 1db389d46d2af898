"""One connection to the core of another process, for many calls at once (see `numbered`)."""

import asyncio
import itertools
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from pylon.node.calls.client import connect, hang_up, node_ended
from pylon.node.calls.long_lists import MAX_LINE_BYTES, line_of
from pylon.node.calls.protocol import Answers, Result, answer_in
from pylon.tasks import end


class Channel:
    """A `Node`, and an async context manager. Once `closed` is set, every call raises `UnreachableError`."""

    def __init__(self, path: Path) -> None:
        self.closed = asyncio.Event()
        self._path = path
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Connects. Raises `UnreachableError` when nobody listens."""
        reader, self._writer = await connect(self._path)
        self._reading = asyncio.create_task(self._read(reader), name="answers of the core")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(self._reading)
        await hang_up(self._writer)

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Answers:
        """See `Node`."""
        if self.closed.is_set():
            raise node_ended()
        number = next(self._numbers)
        line = line_of({"id": number, "call": method, "params": params or {}}, MAX_LINE_BYTES)
        said: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._waiting[number] = said
        over = False
        try:
            self._writer.write(line)
            await self._writer.drain()
            while (heard := await said.get()) is not None:
                over = "event" not in heard
                answer = answer_in(heard)
                yield answer
                if isinstance(answer, Result):
                    return
            over = True
            raise node_ended()
        except ConnectionError as error:
            raise node_ended() from error
        finally:
            del self._waiting[number]
            if not over and not self.closed.is_set():
                with suppress(ConnectionError):
                    # Not waited for: this call may be ending because its own task is cancelled.
                    self._writer.write(line_of({"cancel": number}))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                said = orjson.loads(line)
                # An answer to a call that has been cancelled meanwhile is dropped.
                if (waits := self._waiting.get(said["id"])) is not None:
                    waits.put_nowait(said)
        except (ConnectionError, ValueError, KeyError, TypeError):
            # The core is gone, or sends what no core of this version would.
            pass
        finally:
            self.closed.set()
            for waits in self._waiting.values():
                waits.put_nowait(None)
