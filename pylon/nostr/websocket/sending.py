"""Sends frames on a websocket, without a task or a wait for as long as the peer keeps up."""

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
    """Send a text message, unless earlier ones still wait for the peer: then False, and `socket.send` must be used.

    Most of the cost of `send` is flow control, which is not needed here. On a connection that is closing the message
    is dropped, and the result is True.
    """
    transport = socket.transport
    if transport.get_write_buffer_size() or socket.send_in_progress is not None:
        return False
    protocol = socket.protocol
    if protocol.state is OPEN:
        transport.write(text_frame(message, masked=protocol.side is CLIENT))
    return True


class Sender:
    """Sends to one peer, over one connection after another. When the peer is slow, messages wait in order."""

    def __init__(self) -> None:
        self.socket: Connection | None = None
        # Messages being sent that no caller waits for.
        self.tasks = Tasks()
        self._queued = 0
        self._turn = asyncio.Lock()

    def send(self, frame: bytes) -> asyncio.Task[None] | None:
        """Send a text message; returns what to wait for when the peer is slow. Without a connection it is dropped."""
        if self.socket is None or (not self._queued and sent_at_once(self.socket, frame)):
            return None
        # Started eagerly, so that it has its place in the queue at once, and no later message overtakes it.
        work = self._send_in_turn(self.socket, frame)
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)

    def send_later(self, frame: bytes) -> asyncio.Task[None] | None:
        """As `send`, for callers that do not wait."""
        pending = self.send(frame)
        if pending is not None:
            self.tasks.hold(pending)
        return pending

    def beside(self, sending: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that sends in a task of its own.

        The task that reads must not send: a relay that is sending all of its stored events may read nothing
        meanwhile, and the two would wait for each other.
        """
        self.tasks.start(sending, "sending")

    def lost(self) -> None:
        """The connection is gone: drop what was being sent."""
        self.socket = None
        self.tasks.cancel()

    async def _send_in_turn(self, socket: Connection, frame: bytes) -> None:
        # The library writes first and waits afterwards. If all messages were written at once, so much would be unsent
        # that the peer would look like one that reads nothing (`MAX_UNREAD_BYTES`).
        self._queued += 1
        try:
            # What a lost connection drops is subscribed and published again after the next one opens.
            with suppress(WebSocketException, OSError):
                async with self._turn:
                    await socket.send(frame, text=True)
        finally:
            self._queued -= 1
