"""One connection to the relay: what a client says, and what it is told (NIP-01, NIP-42, NIP-45)."""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Container, Iterable
from dataclasses import dataclass
from functools import partial

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.typing import BytesLike

from pylon import log
from pylon.clock import Clock
from pylon.errors import MalformedError, SignatureError
from pylon.nostr.event import Event, verify
from pylon.nostr.filter import Filter
from pylon.nostr.messages import (
    Auth,
    AuthChallenge,
    Close,
    Closed,
    Count,
    CountResult,
    Eose,
    EventMessage,
    Notice,
    Ok,
    RelayMessage,
    Req,
    Unknown,
    encode,
    parse_client_message,
)
from pylon.nostr.sending import sent_at_once
from pylon.nostr.sockets import ServerSocket
from pylon.relay import access
from pylon.relay.intake import Intake
from pylon.relay.limits import RelayLimits
from pylon.relay.outbox import Outbox
from pylon.relay.paging import pages
from pylon.relay.publishing import Publishing
from pylon.relay.queries import Privacy, Reader
from pylon.relay.refusals import refusal, refuse_filters
from pylon.relay.store import EventStore
from pylon.relay.subscriptions import SubscriptionIndex

TEXT_ONLY = 1003
TRY_AGAIN_LATER = 1013
LAGGING = "the queue of unsent messages is full: this connection is read too slowly"
_CLOSE_S = 10.0

_log = log.get("relay")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of one relay share. `hosts` are the names it is reached by; None for a list means all."""

    store: EventStore
    intake: Intake
    index: "SubscriptionIndex[Session]"
    limits: RelayLimits
    clock: Clock
    require_auth: bool
    writers: Container[str] | None
    readers: Container[str] | None = None


@dataclass(slots=True)
class _Subscription:
    filters: tuple[Filter, ...]
    prefix: bytes
    # Live events that come while stored ones are being sent; None when those are through.
    held: list[tuple[int, bytes]] | None = None
    # Stored events that were sent before their own live delivery came round.
    sent: frozenset[int] = frozenset()
    warned: bool = False


class Session:
    """A connection from its opening to its end."""

    def __init__(self, shared: Shared, websocket: ServerSocket, hosts: frozenset[str]) -> None:
        self._shared = shared
        self._websocket = websocket
        self._hosts = hosts
        self._challenge = secrets.token_urlsafe(24)
        self._keys: frozenset[str] = frozenset()
        self._subscriptions: dict[str, _Subscription] = {}
        self._held_bytes = 0
        self._lagging = asyncio.Event()
        limits = shared.limits
        self._outbox = Outbox(
            self._transmit,
            partial(sent_at_once, websocket),
            max_bytes=limits.queue_bytes,
            max_frames=limits.queue_frames,
        )
        self._publishing = Publishing(
            shared.intake,
            self._tell,
            limits=limits,
            clock=shared.clock,
            require_auth=shared.require_auth,
            writers=shared.writers,
        )

    async def run(self) -> None:
        """Serves the connection until it ends."""
        self._tell(AuthChallenge(self._challenge))
        tasks = [
            asyncio.create_task(work)
            for work in (self._outbox.run(), self._websocket.hand_to(self._take), self._lagging.wait())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for name in self._subscriptions:
                self._shared.index.remove(self, name)
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception) and not isinstance(ended, ConnectionClosed):
                    _log.error("a relay session failed", error=repr(ended))
            await self._hang_up()

    def abort(self) -> None:
        """Cuts the connection without a word: for a peer that takes no words."""
        self._websocket.transport.abort()

    def deliver(self, name: str, event: Event, raw: bytes, seq: int, *, private: bool) -> None:
        """Sends a live event to one of this connection's subscriptions, if its reader may see it."""
        subscription = self._subscriptions[name]
        readers = self._shared.readers
        if readers is not None and access.refuse_reader(self._keys, require_auth=True, readers=readers):
            # Somebody who was taken off the list while connected.
            return
        if private and not access.may_read(event, self._keys):
            self._warn(subscription)
        elif subscription.held is not None:
            subscription.held.append((seq, raw))
            self._held_bytes += len(raw)
            if self._held_bytes > self._shared.limits.queue_bytes:
                self._lagging.set()
        elif seq not in subscription.sent:
            self._push(subscription, raw)

    def _take(self, frame: BytesLike, is_text: bool) -> Awaitable[None] | None:
        if not is_text:
            return self._end(TEXT_ONLY, "Nostr messages are text")
        # A peer that does not read its answers is not read from.
        if not self._outbox.has_room_for_answers():
            return self._take_later(frame)
        try:
            message = parse_client_message(frame)
        except MalformedError as error:
            return self._malformed(bytes(frame), error)
        match message:
            case EventMessage(event):
                return self._publishing.publish(event, self._keys)
            case Req(name, filters):
                return self._subscribe(name, filters)
            case Close(name):
                self._unsubscribe(name)
            case Count(name, filters):
                return self._count(name, filters)
            case Auth(event):
                return self._authenticate(event)
            case Unknown(kind):
                self._tell(Notice(f"invalid: message type {kind!r} is not known here"))
        return None

    async def _take_later(self, frame: BytesLike) -> None:
        await self._outbox.room_for_answers()
        pending = self._take(frame, True)
        if pending is not None:
            await pending

    def _malformed(self, frame: bytes, error: MalformedError) -> Awaitable[None] | None:
        try:
            frame.decode()
        except UnicodeDecodeError:
            # RFC 6455 8.1: such a connection is failed. Whoever parses JSON finds it; nobody else has to look.
            return self._end(CloseCode.INVALID_DATA, "a text message must be UTF-8")
        self._tell(refusal(frame, error))
        return None

    async def _end(self, code: int, reason: str) -> None:
        await self._websocket.close(code, reason)
        raise self._websocket.close_exc

    async def _subscribe(self, name: str, filters: tuple[Filter, ...]) -> None:
        # A new REQ of the same name ends the old one, whether or not the new one is taken.
        self._unsubscribe(name)
        shared = self._shared
        reason = self._refuse(filters)
        if reason is None and len(self._subscriptions) >= shared.limits.subscriptions:
            reason = f"error: {shared.limits.subscriptions} subscriptions are open already; close one first"
        if reason is not None:
            self._tell(Closed(name, reason))
            return
        subscription = _Subscription(filters, b'["EVENT",' + orjson.dumps(name) + b",")
        # Open before the query, so that no event falls between what is stored and what is live.
        self._subscriptions[name] = subscription
        shared.index.add(self, name, filters)
        try:
            await self._send_stored(subscription, self._reader(), Privacy.ALLOWED, end=Eose(name))
            if not self._keys and access.may_match_private(filters):
                await self._warn_of_stored(subscription)
        except sqlite3.Error as error:
            _log.error("a query failed", error=str(error))
            self._unsubscribe(name)
            self._tell(Closed(name, "error: the relay could not read its events; try again later"))

    async def _send_stored(
        self, subscription: _Subscription, reader: Reader, privacy: Privacy, *, end: Eose | None = None
    ) -> None:
        shared = self._shared
        held: list[tuple[int, bytes]] = []
        subscription.held = held
        found = await shared.store.find(subscription.filters, shared.limits.results, reader, privacy)
        # In pages, so that a long answer to a slow reader is not held in memory.
        for page in pages(found):
            for raw in await shared.store.load(page):
                await self._outbox.room_for_stored()
                self._push(subscription, raw)
        if end is not None:
            self._tell(end)
        for seq, raw in held:
            if seq not in found:
                self._push(subscription, raw)
        subscription.held = None
        self._held_bytes = 0
        # Committed, and so found, but not yet delivered: at most the batch that is being committed.
        subscription.sent = frozenset(seq for seq in found if seq > shared.intake.delivered_seq)

    def _unsubscribe(self, name: str) -> None:
        if self._subscriptions.pop(name, None) is not None:
            self._shared.index.remove(self, name)

    async def _count(self, name: str, filters: tuple[Filter, ...]) -> None:
        reason = self._refuse(filters)
        if reason is not None:
            self._tell(Closed(name, reason))
            return
        try:
            self._tell(CountResult(name, await self._shared.store.count(filters, self._reader())))
        except sqlite3.Error as error:
            _log.error("a count failed", error=str(error))
            self._tell(Closed(name, "error: the relay could not read its events; try again later"))

    async def _authenticate(self, event: Event) -> None:
        shared = self._shared
        reason = access.refuse_auth(event, challenge=self._challenge, hosts=self._hosts, now=shared.clock.wall())
        if reason is None and len(self._keys) >= shared.limits.keys:
            reason = f"restricted: at most {shared.limits.keys} keys a connection"
        if reason is None:
            try:
                verify(event)
            except SignatureError as error:
                reason = f"invalid: {error}"
        if reason is not None:
            self._tell(Ok(event.id, False, reason))
            return
        self._tell(Ok(event.id, True))
        if event.pubkey in self._keys:
            return
        self._keys |= {event.pubkey}
        # What open subscriptions were not shown so far is shown now: whether a client authenticates first or
        # subscribes first makes no difference to what it gets.
        reader = Reader(frozenset((event.pubkey,)), int(shared.clock.wall()))
        for subscription in self._subscriptions.values():
            if access.may_match_private(subscription.filters):
                await self._send_stored(subscription, reader, Privacy.OWN)

    def _refuse(self, filters: Iterable[Filter]) -> str | None:
        shared = self._shared
        refused = access.refuse_reader(self._keys, require_auth=shared.require_auth, readers=shared.readers)
        return refused or refuse_filters(filters, shared.limits)

    def _reader(self) -> Reader:
        return Reader(self._keys, int(self._shared.clock.wall()))

    async def _warn_of_stored(self, subscription: _Subscription) -> None:
        if await self._shared.store.withheld(subscription.filters, self._reader()):
            self._warn(subscription)

    def _warn(self, subscription: _Subscription) -> None:
        if not self._keys and not subscription.warned:
            subscription.warned = True
            self._tell(Notice(access.WITHHELD))

    def _push(self, subscription: _Subscription, raw: bytes) -> None:
        if not self._outbox.offer(subscription.prefix, raw, b"]"):
            self._lagging.set()

    def _tell(self, message: RelayMessage) -> None:
        if not self._outbox.offer(encode(message)):
            self._lagging.set()

    async def _transmit(self, frame: bytes) -> None:
        await self._websocket.send(frame, text=True)

    async def _hang_up(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                if self._lagging.is_set():
                    await self._websocket.send(encode(Notice(f"error: {LAGGING}")), text=True)
                    await self._websocket.close(TRY_AGAIN_LATER, LAGGING)
                else:
                    await self._websocket.close()
        except ConnectionClosed:
            pass
        except TimeoutError:
            # A peer that reads nothing at all would keep its buffers for as long as it likes.
            self.abort()
