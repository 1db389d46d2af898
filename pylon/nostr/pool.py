"""Several relays as one: every event once and verified, publications until one relay has said OK.

Relays lose live events (common relay software drops those of a lagging subscriber without a word), so whoever
waits for something particular also asks for it with `query`; this module makes both look the same.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Sequence
from copy import copy
from functools import partial
from typing import Any

from pylon.clock import Clock
from pylon.errors import RelayError, UnreachableError
from pylon.nostr import messages as m
from pylon.nostr.connection import Backoff, RelayConnection, RelayStatus
from pylon.nostr.event import Event, verify
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.stored import weight
from pylon.nostr.subscriptions import Filters
from pylon.records import record
from pylon.relay_url import relay_spelling

SEEN_IDS = 100_000
# What waits for the reader of one subscription, in events and in bytes of memory.
QUEUE_EVENTS, QUEUE_BYTES = 4_096, 64 * 1024 * 1024


@record
class Received:
    """A verified event and the relay it came from first."""

    event: Event
    relay: str


class SeenIds:
    """The ids of the last so many events."""

    def __init__(self, capacity: int = SEEN_IDS) -> None:
        self._capacity = capacity
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def add(self, event_id: str) -> None:
        self._ids[event_id] = None
        if len(self._ids) > self._capacity:
            self._ids.popitem(last=False)


class PoolSubscription:
    """What all relays send for one need: an endless async iterator, until `close`."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Set when one relay has sent all it had stored.
        self.caught_up = asyncio.Event()
        self._queue: asyncio.Queue[Received] = asyncio.Queue(QUEUE_EVENTS)
        self._queued_bytes = 0
        self._seen = SeenIds()
        self._room = asyncio.Event()
        self._opened: dict[RelayConnection, str] = {}
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Received]:
        return self

    async def __anext__(self) -> Received:
        received = await self._queue.get()
        self._taken(received)
        return received

    async def next_batch(self, most: int) -> list[Received]:
        """At least one event, and what else is there already, up to `most`."""
        batch = [await self._queue.get()]
        batch += [self._queue.get_nowait() for _ in range(min(most - 1, self._queue.qsize()))]
        self._taken(*batch)
        return batch

    async def offer(self, event: Event, relay: str) -> bool:
        """Adds an event found another way (a query) unless it is here already. Raises `SignatureError`."""
        return self._is_new(event) and await self._put(Received(event, relay))

    def open_on(self, connection: RelayConnection, filters: Filters) -> None:
        """Adds a relay."""
        take = partial(self._take, relay=connection.url)
        self._opened[connection] = connection.subscribe(filters, take, name=self.name)

    def close_on(self, connection: RelayConnection) -> None:
        """Lets a relay go; one that it is not open on is ignored."""
        name = self._opened.pop(connection, None)
        if name is not None:
            connection.unsubscribe(name)

    async def close(self) -> None:
        """Ends it on all relays."""
        self.closed = True
        for connection in list(self._opened):
            self.close_on(connection)
        # A connection that waits for room here would wait for ever: there is nobody left to make room.
        while not self._queue.empty():
            self._taken(self._queue.get_nowait())

    def _is_new(self, event: Event) -> bool:
        if event.id in self._seen:
            return False
        verify(event)
        return True

    @property
    def _is_full(self) -> bool:
        return self._queue.full() or self._queued_bytes >= QUEUE_BYTES

    def _taken(self, *batch: Received) -> None:
        self._queued_bytes -= sum(weight(received.event) for received in batch)
        self._room.set()

    async def _put(self, received: Received) -> bool:
        while self._is_full and received.event.id not in self._seen:
            self._room.clear()
            await self._room.wait()
        # A copy may have found room first.
        if received.event.id in self._seen:
            return False
        self._add(received)
        return True

    async def _put_later(self, received: Received) -> None:
        await self._put(received)

    def _add(self, received: Received) -> None:
        # Only what holds and is here is remembered: neither a forged copy nor one that was dropped while it waited
        # for room may hide the true event.
        self._seen.add(received.event.id)
        self._queue.put_nowait(received)
        self._queued_bytes += weight(received.event)

    def _take(self, item: Event | m.Eose, relay: str) -> Coroutine[Any, Any, None] | None:
        if isinstance(item, m.Eose):
            self.caught_up.set()
            return None
        if not self._is_new(item):
            return None
        received = Received(item, relay)
        if self._is_full:
            return self._put_later(received)
        self._add(received)
        return None


class RelayPool:
    """Connections to all relays of this node. `secret` authenticates to relays that ask (NIP-42).

    Addresses that differ in their spelling alone are one relay.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        secret: SecretKey | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not urls:
            raise UnreachableError("no relay is configured", hint='Name one: relays = ["ws://…"] in config.toml.')
        self._new = partial(RelayConnection, secret=secret, clock=clock, backoff=backoff, rng=rng)
        self._connections = {url: self._new(url) for url in dict.fromkeys(map(relay_spelling, urls))}
        # Another pool's, which it starts and closes.
        self._lent: frozenset[RelayConnection] = frozenset()
        self._subscriptions: list[tuple[PoolSubscription, Filters]] = []
        self._background: set[asyncio.Task[Any]] = set()

    def extended(self) -> "RelayPool":
        """A pool of the same connections, to which others can be added without this one hearing of them."""
        pool = copy(self)
        pool._connections = dict(self._connections)
        pool._lent = frozenset(self._connections.values())
        pool._subscriptions, pool._background = [], set()
        return pool

    async def add(self, url: str, *, timeout: float) -> bool:
        """Connects to one more relay and opens what is subscribed there too; whether it was open in time."""
        url = relay_spelling(url)
        if url in self._connections:
            return await self._connections[url].wait_open(timeout)
        connection = self._connections[url] = self._new(url)
        connection.start()
        self._subscriptions = [item for item in self._subscriptions if not item[0].closed]
        for subscription, filters in self._subscriptions:
            subscription.open_on(connection, filters)
        return await connection.wait_open(timeout)

    async def remove(self, url: str) -> None:
        """Hangs up on a relay that was added."""
        connection = self._connections.pop(relay_spelling(url))
        for subscription, _ in self._subscriptions:
            subscription.close_on(connection)
        await connection.close()

    @property
    def urls(self) -> list[str]:
        return list(self._connections)

    @property
    def statuses(self) -> list[RelayStatus]:
        return [connection.status for connection in self._connections.values()]

    @property
    def refusals(self) -> list[str]:
        """What the relays that are connected say, where each of them answers us nothing."""
        connected = [one for one in self._connections.values() if one.status.state == "open"]
        refusals = [f"{one.url} {one.refusal}" for one in connected if one.refusal]
        return refusals if len(refusals) == len(connected) else []

    def event_bytes(self, relays: Sequence[str] | None = None, *, most: int) -> int:
        """The largest event, up to `most` bytes, that one of these relays (all by default) says it takes (NIP-11)."""
        largest: int | None = None
        for url in self._connections if relays is None else relays:
            if (connection := self._named(url)) is None:
                continue
            bound = connection.status.information.event_bytes
            if bound is None or bound >= most:
                return most
            largest = bound if largest is None else max(largest, bound)
        return most if largest is None else largest

    def start(self) -> None:
        """Begins to connect everywhere."""
        for connection in self._connections.values():
            connection.start()

    async def close(self) -> None:
        """Hangs up everywhere."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        ours = [connection for connection in self._connections.values() if connection not in self._lent]
        await asyncio.gather(*(connection.close() for connection in ours))

    async def wait_open(self, timeout: float = 10.0) -> None:
        """Returns when one relay is connected. Raises `UnreachableError` after `timeout` seconds."""
        waits = [asyncio.create_task(c.wait_open(timeout)) for c in self._connections.values()]
        try:
            for wait in asyncio.as_completed(waits):
                if await wait:
                    return
        finally:
            for task in waits:
                task.cancel()
        raise UnreachableError(
            "no relay can be reached: " + "; ".join(f"{s.url} ({s.error or 'connecting'})" for s in self.statuses),
            hint="Start one with `pylon relay`, or name others in config.toml.",
        )

    async def publish(self, event: Event, *, relays: Sequence[str] | None = None, timeout: float = 15.0) -> list[str]:
        """Sends the event to the named relays (all by default); the relays that have said OK so far.

        Returns at the first OK; the others are waited for in the background. Raises `RelayError` when each
        refused it or stayed silent for `timeout` seconds.
        """
        connections = self._chosen(relays)
        if len(connections) == 1:
            # The usual case, and the costly part of a publication is its tasks.
            await connections[0].publish(event, timeout=timeout)
            return [connections[0].url]
        sends = {self._spawn(c.publish(event, timeout=timeout)): c.url for c in connections}
        errors: list[str] = []
        pending = set(sends)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            accepted = [sends[task] for task in done if not task.cancelled() and task.exception() is None]
            if accepted:
                return accepted
            # Cancelled by `close`: whoever waits here was not.
            errors += [f"{sends[task]} was closed" if task.cancelled() else str(task.exception()) for task in done]
        raise RelayError("no relay took the event: " + "; ".join(errors))

    def subscribe(self, filters: Filters, *, name: str = "") -> PoolSubscription:
        """One subscription on every relay. `filters` is asked anew at each (re)connection."""
        subscription = PoolSubscription(name)
        for connection in self._connections.values():
            subscription.open_on(connection, filters)
        self._subscriptions = [item for item in self._subscriptions if not item[0].closed]
        self._subscriptions.append((subscription, filters))
        return subscription

    async def query(
        self, filters: tuple[Filter, ...], *, relays: Sequence[str] | None = None, timeout: float = 10.0
    ) -> list[Event]:
        """Stored events of all relays that answer within `timeout` seconds: verified, each once, unordered.

        Raises `UnreachableError` when none answered.
        """
        connections = self._chosen(relays)
        known: dict[str, Event] = {}
        answers = await asyncio.gather(
            *(c.query(filters, timeout=timeout, known=known) for c in connections), return_exceptions=True
        )
        found: dict[str, Event] = {}
        failures: list[str] = []
        for answer in answers:
            if isinstance(answer, RelayError):
                failures.append(str(answer))
                continue
            if isinstance(answer, BaseException):
                raise answer
            found.update((event.id, event) for event in answer)
        if len(failures) == len(connections):
            raise UnreachableError("no relay answered: " + "; ".join(failures))
        return list(found.values())

    def _named(self, url: str) -> RelayConnection | None:
        # Nearly always it is one of `urls`.
        return self._connections.get(url) or self._connections.get(relay_spelling(url))

    def _chosen(self, relays: Sequence[str] | None) -> list[RelayConnection]:
        if relays is None:
            return list(self._connections.values())
        named = dict.fromkeys(self._named(url) for url in relays)
        chosen = [connection for connection in named if connection is not None]
        if not chosen:
            raise RelayError("none of the named relays is one of ours")
        return chosen

    def _spawn[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        # An exception that nobody is left to read is not a fault of the program.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task
