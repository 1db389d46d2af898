"""One subscription over several relays: every event once and verified, in order of arrival.

Nothing is dropped: when the reader falls behind, each relay's socket is not read until there is room. A reader that
answers on the relay where an event came from can ask for copies from other relays as well.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

from pylon.latest import Latest
from pylon.nostr import messages as m
from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.client.stored import weight
from pylon.nostr.client.subscriptions import Filters
from pylon.nostr.copies import Copies
from pylon.nostr.event import Event, verify
from pylon.records import record

SEEN_IDS = 100_000
# The most that waits for the reader of one subscription, in events and in bytes of memory.
QUEUE_EVENTS, QUEUE_BYTES = 4_096, 64 * 1024 * 1024


@record
class Received:
    """A verified event and the relay it came from first."""

    event: Event
    relay: str


class PoolSubscription:
    """An endless async iterator of what all relays send, until `close`. `copies` chooses copies to deliver too."""

    def __init__(self, name: str, copies: Copies | None = None) -> None:
        self.name = name
        self._copies = copies
        # Set when one relay has sent all of its stored events.
        self.caught_up = asyncio.Event()
        # What waits for the reader, with its weight. An `asyncio.Queue` would take a dozen calls for each event.
        self._queue: deque[tuple[Received, int]] = deque()
        self._queued_bytes = 0
        self._came = asyncio.Event()
        self._seen: Latest[str, None] = Latest(SEEN_IDS)
        self._room = asyncio.Event()
        self._opened: dict[RelayConnection, str] = {}
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Received]:
        return self

    async def __anext__(self) -> Received:
        [received] = await self.next_batch(1)
        return received

    async def next_batch(self, most: int) -> list[Received]:
        """Wait for an event; returns it with others that are there by then, at most `most` in all."""
        while not self._queue:
            self._came.clear()
            await self._came.wait()
        return self._taken(most)

    async def offer(self, event: Event, relay: str) -> bool:
        """Add an event that a query found; whether it is new. Waits for room. Raises `SignatureError`."""
        if event.id in self._seen:
            return False
        verify(event)
        return await self._put(Received(event, relay))

    def open_on(self, connection: RelayConnection, filters: Filters) -> None:
        """Subscribe on one more relay."""
        take = partial(self._take, relay=connection.url)
        self._opened[connection] = connection.subscribe(filters, take, name=self.name)

    def close_on(self, connection: RelayConnection) -> None:
        """Unsubscribe on a relay; ignored when it is not subscribed there."""
        name = self._opened.pop(connection, None)
        if name is not None:
            connection.unsubscribe(name)

    async def close(self) -> None:
        """Unsubscribe on all relays."""
        self.closed = True
        for connection in list(self._opened):
            self.close_on(connection)
        # A connection that waits for room would wait for ever: nobody reads the queue any more.
        self._taken(len(self._queue))

    def _is_wanted_copy(self, event: Event, relay: str) -> bool:
        if self._copies is None or not self._copies.is_first(event.id, relay):
            return False
        # Its id is known, but the rest of it has not been checked.
        verify(event)
        return self._copies.counts(event.id, relay, time.monotonic())

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= QUEUE_EVENTS or self._queued_bytes >= QUEUE_BYTES

    def _taken(self, most: int) -> list[Received]:
        batch = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        self._queued_bytes -= sum([size for _, size in batch])
        self._room.set()
        return [received for received, _ in batch]

    async def _put(self, received: Received) -> bool:
        while self._is_full and received.event.id not in self._seen:
            self._room.clear()
            await self._room.wait()
        # A copy from another relay may have been added meanwhile.
        if received.event.id in self._seen:
            return False
        self._add(received)
        return True

    async def _put_later(self, received: Received) -> None:
        await self._put(received)

    def _add(self, received: Received) -> None:
        # An id is remembered only here, once its event is verified and in the queue: a forged copy, or one that was
        # dropped while it waited for room, must not hide the true event.
        if self._copies is not None and len(self._opened) > 1 and received.event.id not in self._seen:
            self._copies.first(received.event.id, received.relay, time.monotonic())
        self._seen.put(received.event.id, None)
        size = weight(received.event)
        self._queue.append((received, size))
        self._queued_bytes += size
        self._came.set()

    def _take(self, item: Event | m.Eose, relay: str) -> Coroutine[Any, Any, None] | None:
        if isinstance(item, m.Eose):
            self.caught_up.set()
            return None
        if item.id in self._seen:
            # A copy is not worth waiting for room.
            if not self._is_full and self._is_wanted_copy(item, relay):
                self._add(Received(item, relay))
            return None
        verify(item)
        received = Received(item, relay)
        if self._is_full:
            return self._put_later(received)
        self._add(received)
        return None
