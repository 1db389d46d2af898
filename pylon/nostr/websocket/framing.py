"""Whole text messages to and from the bytes of a websocket; every other frame is the library's.

Nearly all that Nostr sends are text messages in one frame each. The library reads a frame in steps that may each wait
for more bytes, which for a frame that is there already costs several times what is in it.

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

# What is read at once; only the rest of a frame that is longer is read in larger pieces.
_READ_BYTES, _LONG_READ_BYTES = 64 * 1024, 256 * 1024
# What is worked off of it in one turn of the event loop: a frame takes six bytes at least, and whoever fills a read
# with those must not hold up everybody else.
_FRAMES_A_TURN = 32
# Why nothing is read while such frames wait.
_TURN = "turn"


class _Place(threading.local):
    """What a socket reads into. A read is over before the next one begins, so one does for a thread's connections."""

    def __init__(self) -> None:
        self.long = memoryview(bytearray(_LONG_READ_BYTES))
        self.short = self.long[:_READ_BYTES]


_place = _Place()


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
    """Text messages in one frame go to `_came`; the library gets all else, a whole frame at a time.

    asyncio asks the system for memory for as much as it may read, before every read, and gives back what it did not
    need: five times the cost of reading a few hundred bytes into a place that is there.
    """

    # The last bytes of the handshake's head so far; None when it is through, and frames follow.
    _head: bytes | None = b""
    _is_library = False

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._place = _place
        # The beginning of a frame of which more has to come, and how many bytes it takes to look at it again. It is
        # no longer than a frame may be, and grows in place, however small the pieces that it comes in.
        self._begun = bytearray()
        self._needed = 0
        # Why the socket is not read just now, if it is not.
        self._holds_back: set[str] = set()
        self._turn_is_asked = False

    def _came(self, data: BytesLike, is_text: bool) -> None:
        raise NotImplementedError

    def _in_fragments(self) -> bool:
        raise NotImplementedError

    def _answered(self) -> None:
        """The library may have answered: pings, or a close."""

    def _hold_back(self, why: str) -> None:
        """Reads nothing more before `_read_on` is called with the same word."""
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
        """Where the socket may read to."""
        # Of a long frame what is missing and no more: behind it may come thousands of short ones.
        missing = self._needed - len(self._begun)
        return self._place.long[:missing] if missing > _READ_BYTES else self._place.short

    def buffer_updated(self, nbytes: int) -> None:
        """So much has been read."""
        self.data_received(bytes(self._place.long[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Takes what the socket has read."""
        if self._is_library:
            super().data_received(data)
        elif self._head is not None:
            self._shake_hands(data)
        else:
            if self._begun:
                self._begun += data
                if _TURN in self._holds_back or len(self._begun) < self._needed:
                    return
                data = self._all_begun()
            self._read(data)

    def eof_received(self) -> None:
        """The peer sends no more: the library takes nothing after that."""
        self._read_out()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The same, whoever ended it."""
        self._read_out()
        super().connection_lost(exc)

    def _read_out(self) -> None:
        """All that waits for its turn has it now. That is one read at the most, and once a connection."""
        if _TURN in self._holds_back:
            self._read(self._all_begun(), most_frames=sys.maxsize)

    def _all_begun(self) -> bytes:
        data = bytes(self._begun)
        self._begun.clear()
        return data

    def _ask_turn(self) -> None:
        if not self._turn_is_asked:
            self._turn_is_asked = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Another turn's frames of what was read, unless nobody has room for them."""
        self._turn_is_asked = False
        if self._holds_back == {_TURN}:
            self._read(self._all_begun())

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
        # No frames follow a relay's refusal.
        self._is_library = self.protocol.side is CLIENT and self.protocol.state is not OPEN
        if rest:
            self.data_received(rest)

    def _read(self, data: bytes, most_frames: int = _FRAMES_A_TURN) -> None:
        protocol = self.protocol
        mark = _MASKED if protocol.side is SERVER else 0
        most = protocol.max_message_size
        at, size, self._needed = 0, len(data), 0
        # Frames from here to `at` are the library's and have not been given to it.
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
                # The library says what is wrong and ends the connection.
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
                # Whether it is one of ours can be told when the library has all that came before it.
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
            self._answered()
        if at < size:
            self._begun += data[at:] if at else data
        if frames == most_frames and at < size:
            self._hold_back(_TURN)
            self._ask_turn()
        else:
            self._read_on(_TURN)
