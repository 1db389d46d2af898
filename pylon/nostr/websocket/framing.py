"""A fast path for websocket text messages of one frame; the websockets library handles all other frames.

Nearly all messages of Nostr are text in a single frame. The library reads a frame in steps that may each wait for
more bytes. For a frame that is complete already that costs several times as much as what is done with its contents.

Source: RFC 6455 section 5.2 "Base Framing Protocol".
"""

import struct
import sys
import threading
from asyncio import BufferedProtocol
from secrets import token_bytes
from typing import Any

from websockets.asyncio.connection import Connection
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # in C where that is installed
from websockets.protocol import CLIENT, OPEN, SERVER
from websockets.typing import BytesLike

# FIN and the opcode for text, no reserved bit.
_TEXT = 0x81
_MASKED = 0x80
_HEAD_ENDS = b"\r\n\r\n"

# How much is read from the socket at once; only the rest of a longer frame is read in larger pieces.
_READ_BYTES, _LONG_READ_BYTES = 64 * 1024, 256 * 1024
# How many frames of a read are processed in one turn of the event loop. A frame takes at least six bytes, and a peer
# that fills a read with those must not hold up everybody else.
_FRAMES_A_TURN = 32
# The reason why the socket is not read while frames wait for the next turn.
_TURN = "turn"


class _ReadBuffer(threading.local):
    """The buffer that sockets read into. A read is processed before the next one begins, so that all connections of a
    thread share one.
    """

    def __init__(self) -> None:
        self.long = memoryview(bytearray(_LONG_READ_BYTES))
        self.short = self.long[:_READ_BYTES]


_buffer = _ReadBuffer()


def text_frame(data: bytes, *, masked: bool) -> bytes:
    """The frame of one text message, masked when a client sends it."""
    length = len(data)
    mark = _MASKED if masked else 0
    if length < 126:
        head = struct.pack("!BB", _TEXT, mark | length)
    elif length < 65_536:
        head = struct.pack("!BBH", _TEXT, mark | 126, length)
    else:
        head = struct.pack("!BBQ", _TEXT, mark | 127, length)
    if not masked:
        return head + data
    key = token_bytes(4)
    return b"".join((head, key, apply_mask(data, key)))


class Framing(Connection, BufferedProtocol):
    """A connection that passes text messages of one frame to `_came`, and all other frames to the library, whole.

    It is a `BufferedProtocol` since asyncio otherwise allocates memory for the largest possible read before every
    read, which costs five times as much as reading a few hundred bytes into a buffer that exists.
    """

    # The last bytes of the handshake's HTTP head so far; None after it, when frames follow.
    _head: bytes | None = b""
    # Set when the library is to handle everything that follows.
    _is_library = False

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._buffer = _buffer
        # What was read and not processed yet, and at how many bytes its first frame is complete (0: not known). It
        # grows in place, however small the pieces, and is bounded by the largest frame allowed.
        self._unprocessed = bytearray()
        self._needed = 0
        # The reasons why the socket is not read at the moment.
        self._holds_back: set[str] = set()
        self._turn_is_asked = False

    def _came(self, data: BytesLike, is_text: bool) -> None:
        raise NotImplementedError

    def _in_fragments(self) -> bool:
        raise NotImplementedError

    def _library_took_frames(self) -> None:
        """Called after frames were passed to the library, which may have answered a ping or a close."""

    def _hold_back(self, why: str) -> None:
        """Stop reading the socket until `_read_on` is called for the same reason."""
        if not self._holds_back:
            self.transport.pause_reading()
        self._holds_back.add(why)

    def _read_on(self, why: str) -> None:
        if why not in self._holds_back:
            return
        self._holds_back.remove(why)
        if not self._holds_back:
            self.transport.resume_reading()
        elif self._holds_back == {_TURN}:
            self._ask_turn()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """The memory that the socket reads into."""
        # For a long frame exactly what is missing: thousands of short frames may follow it.
        missing = self._needed - len(self._unprocessed)
        return self._buffer.long[:missing] if missing > _READ_BYTES else self._buffer.short

    def buffer_updated(self, nbytes: int) -> None:
        """Process `nbytes` that were read."""
        self.data_received(bytes(self._buffer.long[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Process bytes from the socket."""
        if self._is_library:
            super().data_received(data)
        elif self._head is not None:
            self._shake_hands(data)
        else:
            if self._unprocessed:
                self._unprocessed += data
                if _TURN in self._holds_back or len(self._unprocessed) < self._needed:
                    return
                data = self._take_unprocessed()
            self._read(data)

    def eof_received(self) -> None:
        """The peer sends no more: process what waits first, since the library takes nothing afterwards."""
        self._read_out()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: process what waits first."""
        self._read_out()
        super().connection_lost(exc)

    def _read_out(self) -> None:
        """Process at once all frames that wait for the next turn: one read at most, and once a connection."""
        if _TURN in self._holds_back:
            self._read(self._take_unprocessed(), most_frames=sys.maxsize)

    def _take_unprocessed(self) -> bytes:
        data = bytes(self._unprocessed)
        self._unprocessed.clear()
        return data

    def _ask_turn(self) -> None:
        if not self._turn_is_asked:
            self._turn_is_asked = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Process the next frames of what was read, unless reading is held back for another reason."""
        self._turn_is_asked = False
        if self._holds_back == {_TURN}:
            self._read(self._take_unprocessed())

    def _shake_hands(self, data: bytes) -> None:
        head = (self._head or b"") + data
        end = head.find(_HEAD_ENDS)
        if end < 0:
            self._head = head[-3:]
            super().data_received(data)
            return
        rest = head[end + 4 :]
        self._head = None
        super().data_received(data[: len(data) - len(rest)])
        # When the server refuses the handshake no frames follow.
        self._is_library = self.protocol.side is CLIENT and self.protocol.state is not OPEN
        if rest:
            self.data_received(rest)

    def _read(self, data: bytes, most_frames: int = _FRAMES_A_TURN) -> None:
        protocol = self.protocol
        mark = _MASKED if protocol.side is SERVER else 0
        most = protocol.max_message_size
        at, size, self._needed = 0, len(data), 0
        # The frames from `theirs` to `at` are for the library, and have not been passed to it yet.
        theirs = frames = 0
        while size - at >= 2 and frames < most_frames:
            frames += 1
            begin = at + 2
            length = data[at + 1] & 127
            if length >= 126:
                begin += 2 if length == 126 else 8
                if size < begin:
                    break
                length = int.from_bytes(data[at + 2 : begin])
            if most is not None and length > most:
                # Too large: the library closes the connection with the right code.
                self._is_library = True
                super().data_received(data[theirs:])
                self._read_on(_TURN)
                return
            if data[at + 1] & _MASKED:
                begin += 4
            end = begin + length
            if end > size:
                self._needed = end - at
                break
            if data[at] == _TEXT and data[at + 1] & _MASKED == mark:
                # The library must have all earlier frames before it can be told whether this is a whole message.
                if theirs < at:
                    super().data_received(data[theirs:at])
                    theirs = at
                if protocol.state is OPEN and not self._in_fragments():
                    body = data[begin:end]
                    self._came(apply_mask(body, data[begin - 4 : begin]) if mark else body, True)
                    theirs = end
            at = end
        if theirs < at:
            super().data_received(data[theirs:at])
            self._library_took_frames()
        if at < size:
            self._unprocessed += data[at:] if at else data
        if frames == most_frames and at < size:
            self._hold_back(_TURN)
            self._ask_turn()
        else:
            self._read_on(_TURN)
