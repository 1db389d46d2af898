"""The HTTP server: uvicorn, with limits on connections and request heads that it lacks."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from pylon.errors import SetupError
from pylon.gateway.connection import Connection, ConnectionLimit
from pylon.host.open_files import allow_files
from pylon.tasks import Tasks

_HEAD_BYTES = 64 * 1024
_IDLE_S = 60
# Connections for the page and the metrics, beside those of requests; and files for the core and its database.
_MORE = 100
_FILES_BESIDE = 100
# When the server is told to stop, requests in progress have so many seconds to be answered.
DRAIN_S = 10


class _Server(uvicorn.Server):
    """Leaves signals to the program that starts it."""

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int, *, connections: int) -> AsyncIterator[int]:
    """Serves inside the `async with`, and yields the port. Raises `SetupError` if it cannot listen there."""
    files = allow_files(connections + _MORE + _FILES_BESIDE)
    limit = ConnectionLimit(max(1, files - _FILES_BESIDE))
    listener, tasks = _listen(host, port), Tasks()
    config = uvicorn.Config(
        app, http=cast("Any", partial(Connection, limit=limit)), ws="none", lifespan="off", loop="asyncio",
        log_config=None, access_log=False, log_level="error", proxy_headers=False, server_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES, timeout_keep_alive=_IDLE_S, timeout_graceful_shutdown=DRAIN_S,
    )  # fmt: skip
    server = _Server(config)
    with listener:
        task = tasks.start(server.serve(sockets=[listener]), "gateway")
        try:
            while not server.started:
                if task.done():
                    # It failed to start; else the caller would believe that it serves.
                    await task
                await asyncio.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Two programs that bind at the same moment may both succeed; only one of them may listen.
        listener.listen()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "Another program is using that port. Choose another with `--port`." if taken else "Check `--host`."
        raise SetupError(f"the gateway cannot listen on {host}, port {port}: {error.strerror}", hint=hint) from error
    return listener
