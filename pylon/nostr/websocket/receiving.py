"""Delivers a websocket's messages in the same turn of the event loop in which they come, while there is room.

The library would put each message into a queue and wake a task for it, which costs more than most of what is done
with a message of a few hundred bytes. Handshake, keepalive and closing are left to the library.
"""

import asyncio
import fcntl
import math
import sys
import termios
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event
from websockets.typing import BytesLike

from pylon.nostr.websocket.framing import Framing

# Takes a message, and whether it is text, which is not checked to be UTF-8. When there is no room, or it takes time,
# it returns something to wait for; no other message is delivered before that is done.
type Take = Callable[[BytesLike, bool], Awaitable[None] | None]

_DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))
# The most unsent bytes for a peer that sends pings and does not read our answers. Beyond it we do not read from the
# peer, either.
MAX_UNREAD_BYTES = 1024 * 1024
# A peer that takes less than a sixteenth of what waits for it, within half of the ping timeout, counts as gone.
_STILL_MOVES = 15 / 16


class DirectDelivery(Framing):
    """A connection whose messages are delivered by `deliver_to`; the library's `recv` gets none.

    Messages that come while nobody takes them are kept, in order. Beyond `max_queue` of them the socket is not read.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # Set while a message can be delivered at once: `deliver_to` runs, and all earlier messages have been taken.
        self._take: Take | None = None
        self._kept: deque[tuple[BytesLike, bool]] = deque()
        # The message in fragments so far, and whether it is text. The library bounds its size.
        self._fragments: bytearray | None = None
        self._is_text = True
        # What the last delivery returned to wait for, or how it failed.
        self._pending: Awaitable[None] | None = None
        self._failure: Exception | None = None
        self._woken = asyncio.Event()
        self._lost = self._stopped = False
        # Runs while the peer is slow to take what waits for it.
        self._stalled: asyncio.TimerHandle | None = None

    async def deliver_to(self, take: Take) -> None:
        """Deliver every message to `take`, in order, until the connection ends. To be called once.

        Raises what `take` raised or, after the last message, `ConnectionClosed`. Messages that come afterwards are
        dropped.
        """
        try:
            while True:
                while self._kept:
                    pending = take(*self._next_kept())
                    if pending is not None:
                        await pending
                if self._lost:
                    raise self.close_exc
                self._woken.clear()
                self._take = take
                await self._woken.wait()
                self._take = None
                if self._failure is not None:
                    raise self._failure
                if self._pending is not None:
                    pending, self._pending = self._pending, None
                    await pending
        finally:
            self._stop()

    def process_event(self, event: Event) -> None:
        """Take a frame, or a handshake message, that the library has parsed."""
        if not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
        elif event.fin and self._fragments is None:
            self._came(event.data, event.opcode is Opcode.TEXT)
        else:
            self._assemble(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: `deliver_to` raises after the last message."""
        super().connection_lost(exc)
        self._stop_watching()
        self._lost = True
        self._woken.set()

    def _in_fragments(self) -> bool:
        return self._fragments is not None

    def _assemble(self, frame: Frame) -> None:
        if self._fragments is None:
            self._fragments, self._is_text = bytearray(), frame.opcode is Opcode.TEXT
        self._fragments += frame.data
        if frame.fin:
            whole, self._fragments = self._fragments, None
            self._came(whole, self._is_text)

    def _came(self, data: BytesLike, is_text: bool) -> None:
        take = self._take
        if take is not None:
            try:
                pending = take(data, is_text)
            except Exception as error:
                # The library expects no exception here: `deliver_to` raises it.
                self._failure = error
            else:
                if pending is None:
                    return
                self._pending = pending
            self._take = None
            self._woken.set()
        elif not self._stopped:
            self._kept.append((data, is_text))
            most = self.max_queue_high
            if most is not None and len(self._kept) > most:
                self._hold_back("kept")

    def _next_kept(self) -> tuple[BytesLike, bool]:
        message = self._kept.popleft()
        if self._holds_back and len(self._kept) <= (self.max_queue_high or 0) // 4:
            self._read_on("kept")
        return message

    def _library_took_frames(self) -> None:
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._hold_back("unread")

    def pause_writing(self) -> None:
        """The peer is behind. Watch it: the library's pings wait for room as well, so they would not find it gone."""
        super().pause_writing()
        self._watch(math.inf)

    def _watch(self, waited: float) -> None:
        if self.ping_timeout is not None:
            self._stalled = self.loop.call_later(self.ping_timeout / 2, self._check_progress, waited)

    def _check_progress(self, waited: float) -> None:
        waits = self.transport.get_write_buffer_size() + self._unacknowledged()
        # A peer that reads, however slowly, has taken a part of that since the last check.
        if waits > waited * _STILL_MOVES:
            self.transport.abort()
        else:
            self._watch(waits)

    def _unacknowledged(self) -> int:
        """The bytes in the system's send buffer that the peer has not acknowledged.

        The system buffers megabytes and takes no more from us before a third of them is acknowledged, for which a
        slow reader needs minutes. Source: tcp(7), `SIOCOUTQ`, the same call as `TIOCOUTQ`.
        """
        with suppress(OSError, ValueError):
            socket = self.transport.get_extra_info("socket")
            return int.from_bytes(fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        # Not every system has this call.
        return 0

    def resume_writing(self) -> None:
        """The peer has taken what waited for it."""
        super().resume_writing()
        self._stop_watching()
        self._read_on("unread")

    def _stop_watching(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    async def close(self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close with a handshake, for `close_timeout` seconds at most: the library would wait for ever for a peer
        that does not read.
        """
        try:
            async with asyncio.timeout(self.close_timeout):
                await super().close(code, reason)
        except TimeoutError:
            self.transport.abort()

    def _stop(self) -> None:
        self._take, self._stopped = None, True
        self._kept.clear()
        if asyncio.iscoroutine(self._pending):
            # It was never awaited, and asyncio would warn of that.
            self._pending.close()
        # Reading goes on, so that the peer's close is seen.
        self._read_on("kept")
