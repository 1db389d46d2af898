"""Frames onto a websocket: without a task or a wait for as long as the peer keeps up."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from websockets.asyncio.connection import Connection
from websockets.exceptions import WebSocketException
from websockets.protocol import CLIENT, OPEN

from pylon.nostr.websocket.framing import text_frame
from pylon.tasks import Tasks


def sent_at_once(socket: Connection, message: bytes) -> bool:
    """Sends a text message if nothing waits for the peer already; False when it must wait its turn in `socket.send`.

    What `send` does besides is for flow control, and most of its cost. A connection that is closing takes nothing.
    """
    transport = socket.transport
    if transport.get_write_buffer_size() or socket.send_in_progress is not None:
        return False
    protocol = socket.protocol
    if protocol.state is OPEN:
        transport.write(text_frame(message, masked=protocol.side is CLIENT))
    return True


class Sender:
    """The way to one peer, for as long as there is one. What it is too slow for goes out one after another."""

    def __init__(self) -> None:
        self.socket: Connection | None = None
        self.tasks = Tasks()
        """What is on its way and nobody waits for."""
        self._queued = 0
        self._turn = asyncio.Lock()

    def send(self, frame: bytes) -> asyncio.Task[None] | None:
        """Sends a text message; what to wait for when the peer does not keep up. Without one it goes nowhere."""
        if self.socket is None or (not self._queued and sent_at_once(self.socket, frame)):
            return None
        # It takes its place in the row at once: nothing overtakes.
        work = self._send_in_turn(self.socket, frame)
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)

    def send_later(self, frame: bytes) -> asyncio.Task[None] | None:
        """The same for whoever does not wait."""
        pending = self.send(frame)
        if pending is not None:
            self.tasks.hold(pending)
        return pending

    def beside(self, sending: Coroutine[Any, Any, None]) -> None:
        """Sends in a task of its own.

        Never in the one that reads: a relay that sends all it has stored reads nothing meanwhile, and the two would
        wait for each other.
        """
        self.tasks.start(sending, "sending")

    def lost(self) -> None:
        """The connection is gone, and with it all that is on its way."""
        self.socket = None
        self.tasks.cancel()

    async def _send_in_turn(self, socket: Connection, frame: bytes) -> None:
        # The library writes first and then waits. If all wrote, so much would wait for the peer that it looks like
        # one that reads no pongs (`MAX_UNREAD_BYTES`).
        self._queued += 1
        try:
            # What a lost connection swallows is asked and published again when it is back.
            with suppress(WebSocketException, OSError):
                async with self._turn:
                    await socket.send(frame, text=True)
        finally:
            self._queued -= 1
