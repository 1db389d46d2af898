"""The HTTP server's connections, limited in number so that clients without a token keep out none that have one."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pylon.gateway.completions import json_response
from pylon.gateway.problems import BUSY_S, Problem

# A client must send the head of a request within this time, or it would only occupy a connection.
HEAD_S = 10.0
# How much is read from a socket at once. A body may come in chunks of one byte, each of which takes microseconds to
# parse, while everything else waits: a third of a second for as much as asyncio would read.
_READ_BYTES = 16 * 1024
# The key in a request's state that `mark_admitted` sets.
ADMITTED = "admitted"


class ConnectionLimit:
    """Holds the open connections to `most`. When all are taken, the one that has been without an admitted request the
    longest is closed for the next.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # What is read from any of them is processed before the next read.
        self.buffer = memoryview(bytearray(_READ_BYTES))
        # An ordered set: a connection goes to the end when it opens, and when it is found to have an admitted
        # request.
        self._open: dict[Connection, None] = {}

    def add(self, one: "Connection") -> bool:
        """Adds a connection; returns whether there is room for it. One too many is added too, to be closed in its
        turn.
        """
        if len(self._open) >= self._most:
            self._make_room()
        # The connection that was closed may itself have been one too many.
        room = len(self._open) < self._most
        self._open[one] = None
        return room

    def remove(self, one: "Connection") -> None:
        self._open.pop(one, None)

    def _make_room(self) -> None:
        for one in list(self._open):
            if not one.is_admitted():
                self.remove(one)
                one.drop()
                return
            # Move it to the end, so that the next search does not begin with it.
            del self._open[one]
            self._open[one] = None


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """A connection whose client must send the whole head of each request within `HEAD_S` seconds.

    It is a `BufferedProtocol` since that alone says how much asyncio reads at once.
    """

    def __init__(self, *given: Any, limit: ConnectionLimit, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limit = limit
        self._late: asyncio.TimerHandle | None = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        return self._limit.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._limit.buffer[:nbytes]))

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect()
        if not self._limit.add(self):
            self.app = _answer_busy

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_asking():
            self._heard()
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        self._limit.remove(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answers a malformed request, or closes the connection if an answer has begun already."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.drop()

    def is_admitted(self) -> bool:
        """Whether an admitted request is in progress."""
        return self._is_asking() and ADMITTED in self.scope["state"]

    def drop(self) -> None:
        """Closes the connection at once: an orderly close would wait for a client that does not read."""
        self.transport.abort()

    def _is_asking(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.drop)

    def _heard(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def mark_admitted(scope: MutableMapping[str, Any]) -> None:
    """Marks a request as admitted: it passed the access rules, and its path is not one that anybody may read."""
    scope.setdefault("state", {})[ADMITTED] = True


async def _answer_busy(scope: Scope, receive: Receive, send: Send) -> None:
    problem = Problem(
        503,
        "busy",
        "the most requests allowed at once are already in progress",
        retry_s=BUSY_S,
        again=True,
        closes=True,
    )
    await json_response(problem.body(), problem.status, problem.headers())(scope, receive, send)
