"""Websockets by callbacks: the library's protocol without its tasks and queues, on asyncio's transports.

What is sent in one turn of the event loop goes out in one write. Nothing bounds what waits for a slow peer.
"""

import asyncio

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import BytesLike
from websockets.uri import parse_uri

MAX_BYTES = 131_072
_READ_BYTES = 256 * 1024

# One buffer serves all connections, since one read ends before the next begins.
_place = memoryview(bytearray(_READ_BYTES))
_dirty: list["Peer"] = []


class Peer(asyncio.BufferedProtocol):
    """One end of a connection. `received` gets each message; `opened` and `closed` can be awaited."""

    def __init__(self, protocol: ClientProtocol | ServerProtocol) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._protocol = protocol
        self._transport: asyncio.Transport | None = None
        self._is_dirty = False
        self._pieces: list[bytes] = []

    def received(self, data: BytesLike) -> None:
        """Takes one message."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Sends one text message at the end of this turn of the event loop; nothing to a peer that is gone."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(data)
            self._later()

    def close(self) -> None:
        """Closes the connection."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close()
            self._later()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if isinstance(self._protocol, ClientProtocol):
            self._protocol.send_request(self._protocol.connect())
            self._later()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        return _place

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.receive_data(bytes(_place[:nbytes]))
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                self._shake_hands(event)
            elif event.opcode is Opcode.TEXT or event.opcode is Opcode.CONT:
                self._take(event)
        # The library answers pings, closing handshakes and protocol errors.
        self._later()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self.closed.set_result(None)
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("the connection was lost before it was open"))

    def _take(self, frame: Frame) -> None:
        if frame.fin and not self._pieces:
            self.received(frame.data)
            return
        self._pieces.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._pieces)
            self._pieces.clear()
            self.received(whole)

    def _shake_hands(self, event: object) -> None:
        if isinstance(self._protocol, ServerProtocol) and isinstance(event, Request):
            self._protocol.send_response(self._protocol.accept(event))
        if self._protocol.handshake_exc is not None:
            self.opened.set_exception(self._protocol.handshake_exc)
        else:
            self.opened.set_result(None)

    def _later(self) -> None:
        if not self._is_dirty:
            if not _dirty:
                self._loop.call_soon(_flush)
            self._is_dirty = True
            _dirty.append(self)

    def _flush(self) -> None:
        self._is_dirty = False
        pieces = self._protocol.data_to_send()
        assert self._transport is not None
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        elif pieces:
            self._transport.write(b"".join(pieces))
        if self._protocol.close_expected():
            self._transport.close()


def _flush() -> None:
    peers = _dirty.copy()
    _dirty.clear()
    for peer in peers:
        peer._flush()


def client(url: str) -> ClientProtocol:
    """The protocol of one connection to this address."""
    return ClientProtocol(parse_uri(url), max_size=MAX_BYTES)


async def connect[P: Peer](peer: P, url: str) -> P:
    """Connects to a peer. Raises `OSError`, and the library's errors if the handshake fails."""
    where = parse_uri(url)
    await asyncio.get_running_loop().create_connection(lambda: peer, where.host, where.port)
    await peer.opened
    return peer
