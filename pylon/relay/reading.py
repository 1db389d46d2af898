"""The subscriptions and counts of one connection: stored events, then live ones, each only if its keys allow it.

Source: NIP-01 "From client to relay: sending events and creating subscriptions", NIP-45.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from pylon import log
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.messages import Closed, CountResult, Eose, Notice, RelayMessage
from pylon.relay import access
from pylon.relay.lookups import took_too_long
from pylon.relay.outbox import Outbox
from pylon.relay.paging import pages
from pylon.relay.queries import Client, Reader, Withheld
from pylon.relay.refusals import refuse_filters
from pylon.relay.shared import Shared
from pylon.relay.subscription_memory import weigh

_log = log.get("relay")


@dataclass(slots=True)
class _Subscription:
    filters: tuple[Filter, ...]
    prefix: bytes
    weight: int
    open: bool = True
    # Live events (sequence number, JSON) that arrive while stored ones are being sent; None when all are sent.
    held: list[tuple[int, bytes]] | None = None
    # Sequence numbers of stored events that were sent before their live delivery, which must not repeat them.
    sent: frozenset[int] = frozenset()


class Reading:
    """See the module. `tell` sends a message to the client; `lag` is called when the client reads too slowly.

    `keys` are the public keys that the client has authenticated as (NIP-42).
    """

    def __init__(
        self, shared: Shared, outbox: Outbox, tell: Callable[[RelayMessage], None], lag: Callable[[], None]
    ) -> None:
        self.keys: frozenset[str] = frozenset()
        self._shared = shared
        self._outbox = outbox
        self._tell = tell
        self._lag = lag
        self._subscriptions: dict[str, _Subscription] = {}
        # What the open subscriptions take of the relay's `SubscriptionMemory`.
        self._weight = 0
        self._held_bytes = 0
        self._told = False
        self._client = Client()

    def close(self) -> None:
        """Ends all subscriptions."""
        for name in list(self._subscriptions):
            self.unsubscribe(name)

    def recheck(self) -> None:
        """Closes all subscriptions, with the reason, if the client was taken off the list of readers meanwhile."""
        reason = self._refuse_client()
        if reason is not None:
            for name in list(self._subscriptions):
                self.unsubscribe(name)
                self._tell(Closed(name, reason))

    def deliver(self, name: str, event: Event, raw: bytes, seq: int, *, private: bool) -> None:
        """Sends a live event to the subscription `name`, if the client may see it; `raw` is its JSON."""
        subscription = self._subscriptions[name]
        if self._shared.readers is not None and self._refuse_client():
            # `recheck` tells the client.
            return
        if private and not access.may_read(event, self.keys):
            return
        if subscription.held is not None:
            subscription.held.append((seq, raw))
            self._held_bytes += len(raw)
            if self._held_bytes > self._shared.limits.queue_bytes:
                self._lag()
        elif seq not in subscription.sent:
            self._push(subscription, raw)

    async def subscribe(self, name: str, filters: tuple[Filter, ...]) -> None:
        """Opens a subscription and sends its stored events, or tells the client why not (CLOSED)."""
        # A new REQ of the same name ends the old subscription, whether or not the new one is accepted.
        self.unsubscribe(name)
        shared = self._shared
        reason = self._refuse(filters)
        if reason is None and len(self._subscriptions) >= shared.limits.subscriptions:
            reason = f"error: {shared.limits.subscriptions} subscriptions are open already; close one first"
        weight = weigh(filters)
        reason = reason or shared.memory.refuse(self._weight, weight)
        if reason is not None:
            self._tell(Closed(name, reason))
            return
        subscription = _Subscription(filters, b'["EVENT",' + orjson.dumps(name) + b",", weight)
        # Open before the query, so that no event is missed between the stored and the live ones.
        self._subscriptions[name] = subscription
        self._weight += weight
        shared.memory.take(weight)
        shared.index.add(self, name, filters)
        try:
            await self._send_stored(subscription, Eose(name))
            self._tell_of_private(filters)
        except sqlite3.Error as error:
            self.unsubscribe(name)
            self._tell_failed_lookup(name, error)

    async def _send_stored(self, subscription: _Subscription, end: Eose) -> None:
        held: list[tuple[int, bytes]] = []
        subscription.held = held
        try:
            found = await self._find(subscription, self._reader())
            await self._send(subscription, found)
            if not subscription.open:
                return
            self._tell(end)
            for seq, raw in held:
                if seq not in found:
                    self._push(subscription, raw)
            # These were committed, and so found, but are not delivered live yet: at most one batch.
            delivered = self._shared.intake.delivered_seq
            subscription.sent = frozenset(seq for seq in found if seq > delivered)
        finally:
            subscription.held = None
            self._held_bytes = 0

    async def _find(
        self, subscription: _Subscription, reader: Reader, withheld: Withheld | None = None
    ) -> dict[int, int]:
        shared = self._shared
        return await shared.store.find(subscription.filters, shared.limits.results, reader, withheld)

    async def _send(self, subscription: _Subscription, found: dict[int, int]) -> None:
        """Sends the stored events that were found, until the subscription is closed: nothing may follow a CLOSED."""
        # In pages, so that a long answer to a slow reader is not held in memory.
        for page in pages(found):
            for raw in await self._shared.store.load(page):
                await self._outbox.room_for_stored()
                if not subscription.open:
                    return
                self._push(subscription, raw)

    def unsubscribe(self, name: str) -> None:
        """Closes a subscription. Unknown names are ignored."""
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None:
            subscription.open = False
            self._weight -= subscription.weight
            self._shared.memory.give_back(subscription.weight)
            self._shared.index.remove(self, name)

    async def count(self, name: str, filters: tuple[Filter, ...]) -> None:
        """Tells the client how many stored events match, or why that is not answered (NIP-45)."""
        reason = self._refuse(filters)
        if reason is not None:
            self._tell(Closed(name, reason))
            return
        try:
            self._tell(CountResult(name, await self._shared.store.count(filters, self._reader())))
        except sqlite3.Error as error:
            self._tell_failed_lookup(name, error)

    async def admit(self, key: str) -> None:
        """Adds a key that the client has authenticated as, and sends the private events that it opens."""
        if key in self.keys:
            return
        withheld = Withheld(self.keys, self._shared.intake.delivered_seq)
        self.keys |= {key}
        # Open subscriptions now get the private events withheld so far: a client gets the same events whether it
        # authenticates or subscribes first.
        reader = Reader(frozenset((key,)), int(self._shared.clock.wall()), self._client)
        for name, subscription in list(self._subscriptions.items()):
            if access.may_match_private(subscription.filters):
                try:
                    await self._send(subscription, await self._find(subscription, reader, withheld))
                except sqlite3.Error as error:
                    self.unsubscribe(name)
                    self._tell_failed_lookup(name, error)

    def _tell_failed_lookup(self, name: str, error: sqlite3.Error) -> None:
        """Tells the client why the database could not answer its REQ or COUNT."""
        if took_too_long(error):
            why = f"over {self._shared.limits.lookup_s:g} s, or others wait that take long as well"
            reason = f"error: this takes too long to look up ({why}); ask for less, or by ids, authors or tags"
        else:
            _log.error("events could not be read", error=str(error))
            reason = "error: the relay could not read its events; try again later"
        self._tell(Closed(name, reason))

    def _refuse(self, filters: Sequence[Filter]) -> str | None:
        return self._refuse_client() or refuse_filters(filters, self._shared.limits)

    def _refuse_client(self) -> str | None:
        shared = self._shared
        return access.refuse_reader(self.keys, require_auth=shared.require_auth, readers=shared.readers)

    def _reader(self) -> Reader:
        return Reader(self.keys, int(self._shared.clock.wall()), self._client)

    def _tell_of_private(self, filters: Sequence[Filter]) -> None:
        if not self.keys and not self._told and access.may_match_private(filters):
            self._told = True
            self._tell(Notice(access.TO_READ_PRIVATE))

    def _push(self, subscription: _Subscription, raw: bytes) -> None:
        if not self._outbox.offer(subscription.prefix, raw, b"]"):
            self._lag()
