"""Write coalescing: all frames sent in one turn of the event loop go to the socket in one write.

A frame is a few hundred bytes, and a write to the socket costs more than making it. Frames that are sent while a
batch of events is processed go out together when the turn ends, and the peer wakes up once.
"""

import asyncio
from typing import Any

# Above this size there is nothing to gain by waiting.
MAX_HELD_BYTES = 256 * 1024


class Cork:
    """A transport that holds back what is written until the turn ends, and passes everything else through.

    What it holds back is bounded, and does not count in `get_write_buffer_size`, which tells what the peer has not
    taken yet.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        # Bound here for speed: it is called before every message.
        self.get_write_buffer_size = transport.get_write_buffer_size
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the bytes, at the latest when this turn of the event loop ends."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_HELD_BYTES:
            self._flush()

    def write_eof(self) -> None:
        """Send what is held back, then the end of the stream."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is held back, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._transport.write(data)
