"""The core of another process, called over its control socket: one call, with a connection of its own.

A program that makes many calls makes them over one connection (`channel`).
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from pylon.errors import NodeSilentError, UnreachableError
from pylon.host.peer import peer_pid
from pylon.node.calls import long_lists
from pylon.node.calls.protocol import Answers, Result, answer_in

# Calls that a working node answers at once, and how many seconds that may take on a busy machine.
_AT_ONCE = frozenset({"ping", "status"})
AT_ONCE_S = 10.0


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


def node_ended() -> UnreachableError:
    """The error for a call whose node ended before its result."""
    return UnreachableError(
        "the node ended during the call", hint="Look for the reason in `logs/pylon.log` in the home, then try again."
    )
