"""The control socket: how other commands call the process that owns a home.

One call a connection, over a Unix socket that its owner alone may open. Lines of JSON:

    → {"call": "map", "params": {…}}
    ← {"event": {…}}                      any number
    ← {"result": {…}}                     or {"error": {"type", "message", "hint"}}

A client that hangs up cancels its call. A client that numbers its calls can make many over one connection
(`numbered`). A long list follows its call, or its result, in pieces (`long_lists`).
"""

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from pylon import errors, log
from pylon.errors import NodeSilentError, PylonError, UnreachableError, UsageError, refusal
from pylon.host.peer import peer_pid
from pylon.node.calls import long_lists
from pylon.node.calls.node_faults import NodeFaults
from pylon.node.calls.numbered import NumberedCalls, Send
from pylon.node.home import private_folder
from pylon.store import faults as store_faults
from pylon.tasks import end

logger = log.get("node")

# Calls that a working node answers at once, and how many seconds that may take on a busy machine.
_AT_ONCE = frozenset({"ping", "status"})
AT_ONCE_S = 10.0
# How many may connect while the node does something else: a program's calls each have a connection. macOS allows 128.
_BACKLOG = 1_024
# The hint with a fault of the node.
_MORE = "`pylon doctor` shows more, and where the log is."


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of news during a call."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call, its last answer."""

    data: dict[str, Any]


type Answers = AsyncGenerator[Event | Result]
type Method = Callable[[dict[str, Any]], Answers]


class Node(Protocol):
    """A core that can be called: in this process, or in another over its socket."""

    def call(self, method: str, params: dict[str, Any] | None = None) -> Answers:
        """Calls a method: yields its events and then its `Result`. Raises the `PylonError` that it failed with."""


async def result_of(node: Node, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of a call, without its events. Raises as the call does."""
    async with aclosing(node.call(method, params)) as answers:
        async for answer in answers:
            if isinstance(answer, Result):
                return answer.data
    raise UnreachableError("the node ended before it answered")


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
        self._calls: set[asyncio.Task[None]] = set()

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
            await end(*self._calls, expected=(Exception,))
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin()
        call = asyncio.create_task(self._answer(reader, writer), name="a control connection")
        self._calls.add(call)
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
            self._calls.discard(call)
            self._end()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request: dict[str, Any] = {}

        async def send(line: dict[str, Any]) -> None:
            # A client that sent its list in pieces can read one in pieces.
            result, outcomes = line.get("result"), None
            if isinstance(result, dict) and long_lists.FOLLOWS in request:
                result, outcomes = long_lists.without_long_list(result, "outcomes")
                line = {"result": result}
            await long_lists.write(writer, line, "outcomes", outcomes)

        try:
            # A client that connects and sends nothing would keep a core from ending.
            async with asyncio.timeout(long_lists.SILENCE_S):
                request = _parse(await long_lists.read_line(reader))
            if long_lists.FOLLOWS in request:
                await long_lists.read_into(request, reader)
            if "id" in request:
                # A connection for numbered calls stays open between them, so only the calls themselves count as busy.
                self._end()
                try:
                    await NumberedCalls(self._run, send, self._begin, self._end).serve(request, reader)
                finally:
                    self._begin()
                return
        except UsageError as error:
            await send(_error_line(error))
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
            await send(_error_line(told))


class RemoteNode:
    """The core of another process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Answers:
        """See `Node`. Raises `UnreachableError` when nobody listens or the process ends during the call, and
        `NodeSilentError` when `ping` or `status` is not answered within `AT_ONCE_S` seconds."""
        reader, writer = await connect(self._path)
        try:
            given, jobs = long_lists.without_long_list(params or {}, "jobs")
            call = {"call": method, "params": given}
            most_bytes, most_line = long_lists.MAX_CALL_BYTES, long_lists.MAX_LINE_BYTES
            await long_lists.write(writer, call, "jobs", jobs, most_bytes=most_bytes, most_line=most_line)
            while line := await self._line(reader, writer, AT_ONCE_S if method in _AT_ONCE else None):
                said = orjson.loads(line)
                answer = answer_in(said)
                if long_lists.FOLLOWS in said:
                    answer.data[said[long_lists.FOLLOWS]] = await long_lists.read(reader)
                yield answer
                if isinstance(answer, Result):
                    return
            raise node_ended()
        except ConnectionError as error:
            raise node_ended() from error
        finally:
            await hang_up(writer)

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, within: float | None) -> bytes:
        try:
            async with asyncio.timeout(within):
                return await reader.readline()
        except TimeoutError:
            pid = peer_pid(writer.get_extra_info("socket"))
            who = (
                "the process that is using this home" if pid is None else f"process {pid}, which is using this home,"
            )
            raise NodeSilentError(
                f"{who} does not answer; it is stuck or stopped",
                hint=(f"Run `kill -9 {pid or 'PID'}` to end it. Its unfinished jobs run again after the next start."),
            ) from None


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to a core's socket. Raises `UnreachableError` when nobody listens there."""
    try:
        return await asyncio.open_unix_connection(path, limit=long_lists.MAX_CALL_BYTES)
    except OSError as error:
        raise UnreachableError("no node is running here", hint="Start one with `pylon start`.") from error


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Closes a connection at once, which cancels its calls. An orderly close would wait for a core that hangs."""
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


def answer_in(said: object) -> Event | Result:
    """The event or result in a decoded line. Raises the error in it, or `UnreachableError` if it has none of
    these."""
    match said:
        case {"event": dict(data)}:
            return Event(data)
        case {"result": dict(data)}:
            return Result(data)
        case {"error": {"type": str(kind), "message": str(message), "hint": str(hint)}}:
            raise _error(kind, message, hint)
        case _:
            raise UnreachableError("the node's answer could not be understood")


def node_ended() -> UnreachableError:
    """The error for a call whose node ended before its result."""
    return UnreachableError(
        "the node ended during the call", hint="Look for the reason in `logs/pylon.log` in the home, then try again."
    )


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


def _error_line(error: PylonError) -> dict[str, Any]:
    return {"error": {"type": type(error).__name__, "message": str(error), "hint": error.hint}}


def _error_for_caller(error: Exception) -> PylonError | None:
    """The error as the caller is told it; None for a fault of the node, about which a caller can do nothing."""
    if isinstance(error, sqlite3.Error):
        return store_faults.told(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PylonError(refusal(error), hint="Free some space on that disk and try again.")
    return error if isinstance(error, PylonError) else None


def _error(kind: str, message: str, hint: str) -> PylonError:
    """The error of this class; a plain `PylonError` if a core of another version names one that is unknown here."""
    known = getattr(errors, kind, PylonError)
    if isinstance(known, type) and issubclass(known, PylonError):
        return known(message, hint=hint)
    return PylonError(message, hint=hint)
