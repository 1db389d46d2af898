"""Frames onto a websocket: without a task or a wait for as long as the peer keeps up."""

from websockets.asyncio.connection import Connection
from websockets.protocol import CLIENT, OPEN

from pylon.nostr.framing import text_frame


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
