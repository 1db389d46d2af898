"""Messages from a websocket, handed over in the turn of the event loop in which they come, while there is room.

The library puts each into a queue and wakes whoever waits for it, which for a message of a few hundred bytes costs
more than most of what is done with it. The handshake, keepalive and closing are the library's.
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

# Takes a message and whether it is text, which is not known to be UTF-8. When there is no room, or it takes time, it
# gives back what to wait for: nothing else is handed over before that is done.
type Take = Callable[[BytesLike, bool], Awaitable[None] | None]

_DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))
# A peer that pings and does not read has so much of its answers kept for it, and is then not read from either.
MAX_UNREAD_BYTES = 1024 * 1024
# Whoever takes no more than a sixteenth of what waits for it, in half the time that it has for a pong, is as good as
# gone.
_STILL_MOVES = 15 / 16


class Handing(Framing):
    """A connection whose messages go to `hand_to`. The library's `recv` has nothing to give.

    What comes while nobody takes it is kept, in order; beyond `max_queue` messages the socket is not read.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # Set while a message may be handed over at once: somebody is there and everything before it has been taken.
        self._take: Take | None = None
        self._kept: deque[tuple[BytesLike, bool]] = deque()
        # A message that comes in fragments, and whether it is text. Its size is bounded by the library.
        self._fragments: bytearray | None = None
        self._is_text = True
        # What the last message handed over gave to wait for, or how it failed.
        self._pending: Awaitable[None] | None = None
        self._failure: Exception | None = None
        self._woken = asyncio.Event()
        self._lost = self._deserted = False
        # Runs while the peer takes nothing of what waits for it.
        self._stalled: asyncio.TimerHandle | None = None

    async def hand_to(self, take: Take) -> None:
        """Hands over every message, in order, for ever. To be called once.

        Raises what `take` raised, and when all were taken `ConnectionClosed`. What comes after is dropped.
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
            self._desert()

    def process_event(self, event: Event) -> None:
        """Takes what the library has parsed."""
        # Before frames come the messages of the handshake.
        if not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
        elif event.fin and self._fragments is None:
            self._came(event.data, event.opcode is Opcode.TEXT)
        else:
            self._assemble(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever takes messages hears of it after the last one."""
        super().connection_lost(exc)
        self._moves()
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
                # The library takes no exception here; it is raised where somebody waits.
                self._failure = error
            else:
                if pending is None:
                    return
                self._pending = pending
            self._take = None
            self._woken.set()
        elif not self._deserted:
            self._kept.append((data, is_text))
            most = self.max_queue_high
            if most is not None and len(self._kept) > most:
                self._hold_back("kept")

    def _next_kept(self) -> tuple[BytesLike, bool]:
        message = self._kept.popleft()
        if self._holds_back and len(self._kept) <= (self.max_queue_high or 0) // 4:
            self._read_on("kept")
        return message

    def _answered(self) -> None:
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._hold_back("unread")

    def pause_writing(self) -> None:
        """The peer is behind. The library's pings wait for room too, and would never find that it is gone."""
        super().pause_writing()
        self._watch(math.inf)

    def _watch(self, waited: float) -> None:
        if self.ping_timeout is not None:
            self._stalled = self.loop.call_later(self.ping_timeout / 2, self._look, waited)

    def _look(self, waited: float) -> None:
        waits = self.transport.get_write_buffer_size() + self._on_its_way()
        # Whoever reads slowly but reads has taken a part of it since.
        if waits > waited * _STILL_MOVES:
            self.transport.abort()
        else:
            self._watch(waits)

    def _on_its_way(self) -> int:
        """What the system has of us and the peer has not: it keeps megabytes, and takes no more before a third of
        them is gone, which with a slow reader is minutes."""
        with suppress(OSError, ValueError):
            socket = self.transport.get_extra_info("socket")
            return int.from_bytes(fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        # Not every system says so.
        return 0

    def resume_writing(self) -> None:
        """The peer has taken what waited for it."""
        super().resume_writing()
        self._moves()
        self._read_on("unread")

    def _moves(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    async def close(self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Says goodbye. The library waits without end for a peer that reads nothing."""
        try:
            async with asyncio.timeout(self.close_timeout):
                await super().close(code, reason)
        except TimeoutError:
            self.transport.abort()

    def _desert(self) -> None:
        self._take, self._deserted = None, True
        self._kept.clear()
        if asyncio.iscoroutine(self._pending):
            # Never begun, and asyncio would call that a fault.
            self._pending.close()
        # The peer's goodbye is read too.
        self._read_on("kept")
