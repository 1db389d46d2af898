"""One write to the socket for all frames of one turn of the event loop.

A frame is a few hundred bytes, and handing it to the system costs more than making it. What is sent while one batch
of events is worked off goes out together when the turn ends, and its reader wakes up once.
"""

import asyncio
from typing import Any

# Beyond this much there is nothing to win.
MAX_HELD_BYTES = 256 * 1024


class Cork:
    """Stands before a transport: keeps what is written until the turn ends, and leaves everything else to it.

    What it keeps is bounded, and not part of `get_write_buffer_size`: that tells what the peer has not taken yet.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        # Asked before every message.
        self.get_write_buffer_size = transport.get_write_buffer_size
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends the bytes, at the latest when this turn of the loop ends."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_HELD_BYTES:
            self._flush()

    def write_eof(self) -> None:
        """Sends what is left, then the end of the stream."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Sends what is left, then closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._transport.write(data)
