"""The relay's server: starts and stops it, accepts websocket connections, and answers plain HTTP requests."""

import asyncio
import errno
import logging
import socket
import tempfile
from collections.abc import Container, Iterable
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.errors import SetupError, system_reason
from pylon.host.names import multicast_name
from pylon.host.open_files import allow_files
from pylon.nostr.event import Event
from pylon.nostr.websocket.sockets import ServerSocket
from pylon.relay.access import is_private
from pylon.relay.addresses import Addresses, public_authorities
from pylon.relay.information import CONTENT_TYPE, information
from pylon.relay.intake import Intake
from pylon.relay.limits import RelayLimits
from pylon.relay.open_files import say_once
from pylon.relay.session import Session
from pylon.relay.shared import Shared
from pylon.relay.store import EventStore
from pylon.relay.subscription_memory import SubscriptionMemory
from pylon.relay.subscriptions import SubscriptionIndex
from pylon.tasks import Tasks

PURGE_S = 60.0
# A connected client that is taken off the list of readers is told so within this time.
RECHECK_S = 5.0
_PING_S = 30.0
_PONG_S = 60.0
_GOODBYE_S = 3.0
_READ_AHEAD = 16
_BACKLOG = 1_024
# Open files for the database, the rest of this process, and connections that are not sessions yet.
_FILES_BESIDE = 512

_log = log.get("relay")


class RelayServer:
    """A relay on one port, for websockets (NIP-01) and HTTP (NIP-11 document, `/health`).

        async with RelayServer(path) as relay:
            print(relay.url)

    `database_path` None keeps events in a temporary file for as long as the relay runs. `port` 0 takes a free one.
    With `require_auth` nothing is read or written before NIP-42 authentication; `allow_writers` are the public keys
    that may publish (None: all), `allow_readers` those that may read, after authentication (None: all). NIP-42
    answers must name this machine at `port`, or one of `public_urls`: further addresses that clients know, such as
    that of a proxy. Raises `MalformedError` if one of those is not the URL of a relay.
    """

    def __init__(
        self,
        database_path: Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: RelayLimits | None = None,
        clock: Clock | None = None,
        require_auth: bool = False,
        allow_writers: Container[str] | None = None,
        allow_readers: Container[str] | None = None,
        public_urls: Iterable[str] = (),
    ) -> None:
        self._path = database_path
        self._host = host
        self._port = port
        self._limits = limits or RelayLimits()
        self._clock = clock or SystemClock()
        self._require_auth = require_auth
        self._writers = allow_writers
        self._readers = allow_readers
        self._public = public_authorities(public_urls)
        self._server: Server | None = None
        self._shared: Shared | None = None
        self._sessions: set[Session] = set()
        self._tasks = Tasks()
        # What `stop` undoes, the last first.
        self._opened = AsyncExitStack()
        self._about = orjson.dumps(
            information(
                self._limits,
                require_auth=require_auth or allow_readers is not None,
                restricted_writes=allow_writers is not None,
            )
        )

    @property
    def url(self) -> str:
        """The websocket address, once started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self._port}"

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._sessions)

    async def start(self) -> None:
        """Opens the database and listens. Raises `SetupError` when the file or the port cannot be used."""
        try:
            path = self._path
            if path is None:
                folder = self._opened.enter_context(tempfile.TemporaryDirectory(prefix="pylon-relay-"))
                path = Path(folder) / "relay.db"
            await self._open(path)
            await self._listen()
            _log.info("relay listens", url=self.url, database=path.name)
        except BaseException:
            await self.stop()
            raise

    async def _open(self, path: Path) -> None:
        store = await EventStore.open(
            path, max_bytes=self._limits.store_bytes, lookup_s=self._limits.lookup_s, clock=self._clock
        )
        self._opened.push_async_callback(store.close)
        intake = Intake(store, self._deliver, max_bytes=self._limits.waiting_bytes)
        self._shared = Shared(
            store=store,
            intake=intake,
            index=SubscriptionIndex(),
            memory=SubscriptionMemory(self._limits),
            limits=self._limits,
            clock=self._clock,
            require_auth=self._require_auth,
            writers=self._writers,
            readers=self._readers,
        )
        self._tasks.start(intake.run(), "relay intake")
        self._tasks.start(self._purge(), "relay purge")
        if self._readers is not None:
            self._tasks.start(self._recheck(), "relay readers")
        self._opened.push_async_callback(self._tasks.close)
        self._opened.push_async_callback(intake.drain)

    async def _listen(self) -> None:
        allow_files(self._limits.connections + _FILES_BESIDE)
        self._opened.callback(say_once(asyncio.get_running_loop(), self._clock))
        # Malformed input from strangers is not worth a stack trace each time.
        quiet = logging.getLogger("pylon.relay.websockets")
        quiet.setLevel(logging.CRITICAL)
        try:
            self._server = await serve(
                self._connected,
                self._host,
                self._port,
                process_request=self._http,
                create_connection=ServerSocket,
                # Events are mostly ciphertext: deflate costs more memory and time than it saves.
                compression=None,
                max_size=self._limits.message_bytes,
                max_queue=_READ_AHEAD,
                ping_interval=_PING_S,
                ping_timeout=_PONG_S,
                server_header=None,
                logger=quiet,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise SetupError(
                f"the relay cannot listen on {self._host} port {self._port}: {system_reason(error)}",
                hint=_bind_hint(error),
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes every connection (close code 1001), stores what was submitted, and closes the file."""
        if self._server is not None:
            self._server.close()
            try:
                async with asyncio.timeout(_GOODBYE_S):
                    await self._server.wait_closed()
            except TimeoutError:
                for session in self._sessions:
                    session.abort()
                await self._server.wait_closed()
            self._server = None
        await self._opened.aclose()
        self._shared = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connected(self, websocket: ServerConnection) -> None:
        shared = self._shared
        if shared is None:
            return
        session = Session(shared, cast("ServerSocket", websocket), self._addresses(websocket))
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    def _addresses(self, websocket: ServerConnection) -> Addresses:
        # The local address of this connection is one of ours, also where the relay listens on all addresses.
        address, port = websocket.local_address[:2]
        name = socket.gethostname().lower().removesuffix(".local")
        names = {self._host.lower(), str(address), name, f"{name}.local", f"{multicast_name()}.local"}
        return Addresses(frozenset(names), port, self._public)

    def _deliver(self, event: Event, raw: bytes, seq: int) -> None:
        if self._shared is None:
            return
        private = is_private(event)
        for reading, name in self._shared.index.match(event):
            try:
                reading.deliver(name, event, raw, seq, private=private)
            except Exception:
                # The remaining readers must still get the event.
                _log.exception("an event could not be delivered to a reader", id=event.id)

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        if "upgrade" in request.headers:
            if self.connections < self._limits.connections:
                return None
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "This relay has no room for one more.\n")
        if request.path == "/health":
            subscriptions = len(self._shared.index) if self._shared else 0
            state = {"status": "ok", "connections": self.connections, "subscriptions": subscriptions}
            return _response(orjson.dumps(state), "application/json")
        if CONTENT_TYPE in request.headers.get("Accept", ""):
            return _response(self._about, CONTENT_TYPE)
        return _response(b"This is a Nostr relay: connect to it with a Nostr client.\n", "text/plain")

    async def _recheck(self) -> None:
        # A client that is taken off the list while connected is told so, or it would wait for events in vain.
        while True:
            await asyncio.sleep(RECHECK_S)
            for session in list(self._sessions):
                session.recheck()

    async def _purge(self) -> None:
        while self._shared is not None:
            try:
                now, dropped = int(self._clock.wall()), 0
                while await self._shared.store.purge(now):
                    pass
                while some := await self._shared.store.make_room(now):
                    dropped += some
                if dropped:
                    _log.info("the relay is nearly full: jobs of over a week ago were deleted", events=dropped)
            except Exception as error:
                _log.error("expired events could not be deleted", error=str(error))
            await asyncio.sleep(PURGE_S)


def _bind_hint(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                "Stop the program on that port (perhaps another `pylon relay`), or set another `port` in [relay] of "
                "config.toml."
            )
        case errno.EACCES | errno.EPERM:
            return "Choose a port above 1023; lower ports are reserved for the system."
        case _:
            return (
                "Choose an address of this machine: 127.0.0.1 accepts only this machine, 0.0.0.0 "
                "listens on all its addresses."
            )


def _response(body: bytes, kind: str) -> Response:
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
            # NIP-11: web clients of any origin may read it.
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Headers": "*",
            "Access-Control-Allow-Methods": "GET, OPTIONS",
        }
    )
    return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, headers, body)
