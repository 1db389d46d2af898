"""Frames onto a websocket: without a task or a wait for as long as the peer keeps up."""

from websockets.asyncio.connection import Connection
from websockets.asyncio.server import broadcast


def sent_at_once(socket: Connection, frame: bytes) -> bool:
    """Sends a text frame if nothing waits for the peer already; False when it must wait its turn in `socket.send`.

    What `send` does besides is for flow control, and half of its cost. A connection that is closing takes nothing.
    """
    if socket.transport.get_write_buffer_size():
        return False
    broadcast((socket,), frame, text=True)
    return True
