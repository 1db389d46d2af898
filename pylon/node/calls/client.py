"""The core of another process, called over its control socket: one call, with a connection of its own.

A program that makes many calls makes them over one connection (`channel`).
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from pylon.errors import NodeSilentError, PylonError, UnreachableError
from pylon.host.peer import peer_pid
from pylon.node.calls import long_lists
from pylon.node.calls.protocol import Answers, Result, answer_in

# Calls that a working node answers at once, and how many seconds that may take on a busy machine.
_AT_ONCE = frozenset({"ping", "status"})
AT_ONCE_S = 10.0
# Whether the system refuses a connection in the same words if nobody listens and if too many wait to be accepted.
# Linux has a word for each. macOS has one, which is believed only when it was said for so many seconds: a node that
# works accepts some of those who wait within that time.
REFUSES_WHEN_FULL = sys.platform != "linux"
UNCLEAR_S = 0.5
_RETRY_S = 0.02


class RemoteNode:
    """The core of another process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Answers:
        """See `Node`. Raises `UnreachableError` when nobody listens or the process ends during the call, and
        `NodeSilentError` when `ping` or `status` is not answered within `AT_ONCE_S` seconds, or the call is not
        accepted within them."""
        reader, writer = await connect(self._path)
        try:
            await long_lists.write_call(long_lists.put_to(writer), {"call": method, "params": params or {}})
            while line := await in_time(method, reader.readline(), writer):
                said = orjson.loads(line)
                answer = answer_in(said)
                if long_lists.FOLLOWS in said:
                    rows = await long_lists.read(long_lists.pieces_from(reader))
                    answer.data[said[long_lists.FOLLOWS]] = rows
                yield answer
                if isinstance(answer, Result):
                    return
            raise node_ended()
        except ConnectionError as error:
            raise node_ended() from error
        finally:
            await hang_up(writer)


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to a core's socket, and waits while too many others do. Raises `UnreachableError` when nobody listens
    there, and `NodeSilentError` when it accepts nobody for `AT_ONCE_S` seconds."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        try:
            connection = _connected_to(path)
        except OSError as error:
            if loop.time() - started >= _patience_s(error):
                raise _not_connected(error) from error
        else:
            return await asyncio.open_unix_connection(sock=connection, limit=long_lists.MAX_CALL_BYTES)
        await asyncio.sleep(_RETRY_S)


def _connected_to(path: Path) -> socket.socket:
    # A Unix socket is connected at once or not at all. asyncio takes a full backlog on Linux for a connection that is
    # under way, and then for one that was made.
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        raise
    return connection


def _patience_s(error: OSError) -> float:
    """For how many seconds to try again after a connection was refused this way."""
    if isinstance(error, BlockingIOError):
        return AT_ONCE_S
    return UNCLEAR_S if isinstance(error, ConnectionRefusedError) and REFUSES_WHEN_FULL else 0.0


def _not_connected(error: OSError) -> PylonError:
    if isinstance(error, BlockingIOError):
        return _silent(None)
    return UnreachableError("no node is running here", hint="Start one with `pylon start`.")


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Closes a connection at once, which cancels its calls. An orderly close would wait for a core that hangs."""
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def in_time[T](method: str, waits: Awaitable[T], writer: asyncio.StreamWriter) -> T:
    """What `waits` brings. Raises `NodeSilentError` if it takes long, for a method that a node answers at once."""
    try:
        async with asyncio.timeout(AT_ONCE_S if method in _AT_ONCE else None):
            return await waits
    except TimeoutError:
        raise _silent(peer_pid(writer.get_extra_info("socket"))) from None


def node_ended() -> UnreachableError:
    """The error for a call whose node ended before its result."""
    return UnreachableError(
        "the node ended during the call", hint="Look for the reason in `logs/pylon.log` in the home, then try again."
    )


def _silent(pid: int | None) -> NodeSilentError:
    """The error for a node that hangs, whose process is `pid` if that is known."""
    who = "the process that is using this home" if pid is None else f"process {pid}, which is using this home,"
    return NodeSilentError(
        f"{who} does not answer; it is stuck or stopped",
        hint=f"Run `kill -9 {pid or 'PID'}` to end it. Its unfinished jobs run again after the next start.",
    )
