"""The bounded queue of messages to one client, sent in order; none is dropped without the client being told.

Stored events are read from the file only when the queue has room, and nothing is read from the client while too many
answers to it wait. Live events cannot be held back for one client: one that does not keep up is told so and
disconnected, and asks for the events it missed when it connects again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

# The most bytes that wait when a stored event is added, far below the queue's bound: live events find room during a
# long answer, and a client that asks for much and reads nothing costs little memory.
_STORED_BYTES = 1024 * 1024


class Outbox:
    """The queue of one connection, and the loop (`run`) that empties it."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        sent_at_once: Callable[[bytes], bool],
        *,
        max_bytes: int,
        max_frames: int,
    ) -> None:
        """`sent_at_once` sends a frame unless that would have to wait for the client, and returns whether it did;
        `send` waits. `max_bytes` and `max_frames` bound the queue.
        """
        self._send = send
        self._sent_at_once = sent_at_once
        self._sending = False
        self._max_bytes = max_bytes
        self._max_frames = max_frames
        self._frames: deque[tuple[bytes, ...]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._sent = asyncio.Event()

    def offer(self, *parts: bytes) -> bool:
        """Sends or queues a message given in parts, which are joined when it is sent. False if there is no room."""
        if not self._frames and not self._sending and self._sent_at_once(b"".join(parts)):
            return True
        size = sum(map(len, parts))
        if self._bytes + size > self._max_bytes or len(self._frames) >= self._max_frames:
            return False
        self._frames.append(parts)
        self._bytes += size
        self._filled.set()
        return True

    def has_room_for_answers(self) -> bool:
        """Whether the queue is less than half full."""
        return not self._frames or self._is_below(self._max_bytes // 2)

    async def room_for_answers(self) -> None:
        """Waits until the queue is less than half full."""
        await self._below(self._max_bytes // 2)

    async def room_for_stored(self) -> None:
        """Waits until the queue is short: stored events stay in the file until they can be sent."""
        await self._below(min(_STORED_BYTES, self._max_bytes // 2))

    async def _below(self, size: int) -> None:
        while not self._is_below(size):
            self._sent.clear()
            await self._sent.wait()

    def _is_below(self, size: int) -> bool:
        return self._bytes <= size and len(self._frames) <= self._max_frames // 2

    async def run(self) -> None:
        """Sends what is queued until it is cancelled; raises what `send` raises."""
        while True:
            await self._filled.wait()
            self._sending = True
            while self._frames:
                parts = self._frames.popleft()
                self._bytes -= sum(map(len, parts))
                self._sent.set()
                await self._send(b"".join(parts))
            self._sending = False
            self._filled.clear()
