"""One connection of the HTTP server, and the crowd of all: whoever shows no key holds up nobody who does."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pylon.gateway.completions import json_response
from pylon.gateway.problems import BUSY_S, Problem

# Whoever has not sent the head of a request by then only holds a connection.
HEAD_S = 10.0
# The guard sets it in the state of a request that showed the token or a session.
LET_IN = "let_in"


class Crowd:
    """All connections. When there are `most`, the one that was silent the longest makes room for the next."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Who came last, or had a request under way when room was needed, stands last.
        self._there: dict[Connection, None] = {}

    def join(self, one: "Connection") -> bool:
        """Whether there is room for it. It is there in any case: it may have the next place."""
        if len(self._there) >= self._most:
            self._make_room()
        # One that left may itself have been one too many.
        room = len(self._there) < self._most
        self._there[one] = None
        return room

    def leave(self, one: "Connection") -> None:
        self._there.pop(one, None)

    def _make_room(self) -> None:
        for one in list(self._there):
            if not one.is_let_in():
                self.leave(one)
                one.drop()
                return
            # The next look need not begin with it.
            del self._there[one]
            self._there[one] = None


class Connection(H11Protocol):
    """One whose client must send a whole head within a time, the first as any further one."""

    def __init__(self, *given: Any, crowd: Crowd, **named: Any) -> None:
        super().__init__(*given, **named)
        self._crowd = crowd
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect()
        if not self._crowd.join(self):
            self.app = _crowded

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_asking():
            self._heard()
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        self._crowd.leave(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Where an answer has begun there is no place for another one."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.drop()

    def is_let_in(self) -> bool:
        """Whether a request of somebody who may ask is under way."""
        return self._is_asking() and LET_IN in self.scope["state"]

    def drop(self) -> None:
        """Closes it now: whoever does not read, either, would hold it."""
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


def let_in(scope: MutableMapping[str, Any]) -> None:
    """Says that this request is of somebody who may ask."""
    scope.setdefault("state", {})[LET_IN] = True


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    problem = Problem(
        503,
        "busy",
        "the most requests allowed at once are already in progress",
        retry_s=BUSY_S,
        again=True,
        closes=True,
    )
    await json_response(problem.body(), problem.status, problem.headers())(scope, receive, send)
