"""The control socket of the process that owns a home: a Unix socket that its owner alone may open.

See `protocol` for what is said over it.
"""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import orjson

from pylon import log
from pylon.errors import PylonError, UsageError, refusal
from pylon.node.calls import long_lists
from pylon.node.calls.node_faults import NodeFaults
from pylon.node.calls.numbered import NumberedCalls, Send
from pylon.node.calls.protocol import Event, Method, error_line
from pylon.node.home import private_folder
from pylon.store import faults as store_faults
from pylon.tasks import end

logger = log.get("node")

# How many may connect while the node does something else. macOS allows 128.
_BACKLOG = 1_024
# The hint with a fault of the node.
_MORE = "`pylon doctor` shows more, and where the log is."


class ControlServer:
    """Offers `methods` on the socket at `path`. `busy` counts the calls in progress, and `idle` is set while there
    are none. `faults` records calls that failed by a fault of the node; `more` is the hint that callers get with
    one."""

    def __init__(self, path: Path, methods: Mapping[str, Method], *, more: str = _MORE) -> None:
        self.busy = 0
        self.faults = NodeFaults(more)
        self.idle = asyncio.Event()
        self.idle.set()
        self._path = path
        self._methods = methods
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Starts to listen. The caller holds the home's lock, so an existing socket belongs to no process."""
        private_folder(self._path.parent)
        self._path.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, self._path, limit=long_lists.MAX_LINE_BYTES, backlog=_BACKLOG
            )
        finally:
            os.umask(previous)

    async def close(self) -> None:
        """Stops listening, and cancels the calls in progress."""
        if self._server is not None:
            self._server.close()
            # `_serve` logs what a call failed with.
            await end(*self._connections, expected=(Exception,))
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin()
        call = asyncio.create_task(self._answer(reader, writer), name="a control connection")
        self._connections.add(call)
        try:
            await call
        except (ConnectionError, TimeoutError):
            pass
        except asyncio.CancelledError:
            call.cancel()
            # A node that ends does not wait for a client to read: it may never do so.
            writer.transport.abort()
        except Exception:
            logger.exception("a control call failed")
        finally:
            self._connections.discard(call)
            self._end()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request: dict[str, Any] = {}
        put = long_lists.put_to(writer)

        async def send(answer: dict[str, Any]) -> None:
            await long_lists.write_answer(put, answer, request)

        try:
            # A client that connects and sends nothing would keep a core from ending.
            async with asyncio.timeout(long_lists.SILENCE_S):
                request = _parse(await long_lists.read_line(reader))
            if "id" in request:
                # A connection for numbered calls stays open between them, so only the calls themselves count as busy.
                self._end()
                try:
                    await NumberedCalls(self._run, put, self._begin, self._end).serve(request, reader)
                finally:
                    self._begin()
                return
            if long_lists.FOLLOWS in request:
                await long_lists.read_into(request, long_lists.pieces_from(reader))
        except UsageError as error:
            await send(error_line(error))
            return
        work = asyncio.create_task(self._run(request, send), name="a control call")
        hung_up = asyncio.create_task(_until_hung_up(reader), name="whether its client is there")
        try:
            await asyncio.wait({work, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(work, hung_up, expected=(ConnectionError,))

    def _begin(self) -> None:
        self.busy += 1
        self.idle.clear()

    def _end(self) -> None:
        self.busy -= 1
        if not self.busy:
            self.idle.set()

    async def _run(self, request: dict[str, Any], send: Send) -> None:
        try:
            method = self._methods.get(str(request.get("call")))
            if method is None:
                raise UsageError(
                    "the node does not know this call", hint="Check that both run the same version of Pylon."
                )
            params = {} if request.get("params") is None else request["params"]
            if not isinstance(params, dict):
                raise UsageError("the params of a call must be an object")
            async with aclosing(method(params)) as answers:
                async for answer in answers:
                    await send({"event" if isinstance(answer, Event) else "result": answer.data})
        except ConnectionError:
            pass
        except Exception as error:
            told = _error_for_caller(error) or self.faults.record(str(request.get("call")), error)
            await send(error_line(told))


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return request if isinstance(request, dict) else {}


async def _until_hung_up(reader: asyncio.StreamReader) -> None:
    """Returns when the client hangs up. Whatever it sends after its call is ignored."""
    while await reader.read(65_536):
        pass


def _error_for_caller(error: Exception) -> PylonError | None:
    """The error as the caller is told it; None for a fault of the node, about which a caller can do nothing."""
    if isinstance(error, sqlite3.Error):
        return store_faults.told(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PylonError(refusal(error), hint="Free some space on that disk and try again.")
    return error if isinstance(error, PylonError) else None
