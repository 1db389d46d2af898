"""The HTTP server: uvicorn, with the two bounds that it has not."""

import asyncio
import errno
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pylon.errors import SetupError

# Whoever has not sent the head of a request by then only holds a connection.
HEAD_S = 30.0
_HEAD_BYTES = 64 * 1024
_IDLE_S = 60
# A request has a connection, and the page, the metrics and the core have some.
_FILES_BESIDE = 200
# Those under way are answered when it is told to stop, within so many seconds.
DRAIN_S = 10


class _Connection(H11Protocol):
    """One whose client must send a whole head within a time, the first as any further one."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._heard()
        else:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_S, self._give_up)

    def _heard(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Whoever starts it deals with signals."""

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int, *, connections: int) -> AsyncIterator[int]:
    """Serves within; the port. Raises `SetupError` when nothing can listen there."""
    allow_files(connections + _FILES_BESIDE)
    listener = _listen(host, port)
    config = uvicorn.Config(
        app, http=_Connection, ws="none", lifespan="off", loop="asyncio", log_config=None, access_log=False,
        log_level="error", proxy_headers=False, server_header=False, h11_max_incomplete_event_size=_HEAD_BYTES,
        limit_concurrency=connections + _FILES_BESIDE, timeout_keep_alive=_IDLE_S, timeout_graceful_shutdown=DRAIN_S,
    )  # fmt: skip
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()


def allow_files(wanted: int) -> None:
    """Lets this process have so many files open, as far as the system does: a Mac's shell allows 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        # macOS has a further bound, of which it tells only by refusing.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Two that bind at the same moment both may; one of them is told here.
        listener.listen()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "Another program listens there: take another with `--port`." if taken else "Look at `--host`."
        raise SetupError(f"nothing can listen at {host}, port {port}: {error.strerror}", hint=hint) from error
    return listener
