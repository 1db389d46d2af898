"""One connection to the relay: reads the client's messages and answers them (NIP-01, NIP-42, NIP-45)."""

import asyncio
import secrets
from collections.abc import Awaitable
from functools import partial

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.typing import BytesLike

from pylon.errors import MalformedError, SignatureError
from pylon.nostr.event import Event, verify
from pylon.nostr.messages import (
    Auth,
    AuthChallenge,
    Close,
    Count,
    EventMessage,
    Notice,
    Ok,
    RelayMessage,
    Req,
    Unknown,
    encode,
    parse_client_message,
)
from pylon.nostr.websocket.sending import sent_at_once
from pylon.nostr.websocket.sockets import ServerSocket
from pylon.relay import access
from pylon.relay.addresses import Addresses
from pylon.relay.outbox import Outbox
from pylon.relay.publishing import Publishing
from pylon.relay.reading import Reading
from pylon.relay.refusals import refusal
from pylon.relay.shared import Shared
from pylon.tasks import end

LAGGING = "the queue of unsent messages is full: this connection is read too slowly"
_CLOSE_S = 10.0


class Session:
    """A connection from its opening to its end. `addresses` are those that the client may name to authenticate."""

    def __init__(self, shared: Shared, websocket: ServerSocket, addresses: Addresses) -> None:
        self._shared = shared
        self._websocket = websocket
        self._addresses = addresses
        self._challenge = secrets.token_urlsafe(24)
        self._lagging = asyncio.Event()
        limits = shared.limits
        self._outbox = Outbox(
            self._transmit,
            partial(sent_at_once, websocket),
            max_bytes=limits.queue_bytes,
            max_frames=limits.queue_frames,
        )
        self._reading = Reading(shared, self._outbox, self._tell, self._lagging.set)
        self._publishing = Publishing(shared, self._tell)

    async def run(self) -> None:
        """Serves the connection until it ends."""
        self._tell(AuthChallenge(self._challenge))
        tasks = [
            asyncio.create_task(work, name="a relay session")
            for work in (self._outbox.run(), self._websocket.deliver_to(self._take), self._lagging.wait())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._reading.close()
            await end(*tasks, expected=(ConnectionClosed,))
            await self._hang_up()

    def recheck(self) -> None:
        """Closes the subscriptions if the client may not read any more."""
        self._reading.recheck()

    def abort(self) -> None:
        """Ends the connection without a closing handshake, for a client that reads nothing."""
        self._websocket.transport.abort()

    def _take(self, frame: BytesLike, is_text: bool) -> Awaitable[None] | None:
        if not is_text:
            return self._end(CloseCode.UNSUPPORTED_DATA, "Nostr messages are text")
        # Nothing is read from a client that does not read its answers.
        if not self._outbox.has_room_for_answers():
            return self._take_later(frame)
        try:
            message = parse_client_message(frame)
        except MalformedError as error:
            return self._malformed(bytes(frame), error)
        match message:
            case EventMessage(event):
                return self._publishing.publish(event, self._reading.keys)
            case Req(name, filters):
                return self._reading.subscribe(name, filters)
            case Close(name):
                self._reading.unsubscribe(name)
            case Count(name, filters):
                return self._reading.count(name, filters)
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
            # RFC 6455, 8.1: the connection must be failed. Checked only here, since invalid UTF-8 is invalid JSON
            # too.
            return self._end(CloseCode.INVALID_DATA, "a text message must be UTF-8")
        self._tell(refusal(frame, error))
        return None

    async def _end(self, code: CloseCode, reason: str) -> None:
        await self._websocket.close(code, reason)
        raise self._websocket.close_exc

    async def _authenticate(self, event: Event) -> None:
        shared = self._shared
        reason = access.refuse_auth(
            event, challenge=self._challenge, addresses=self._addresses, now=shared.clock.wall()
        )
        if reason is None and len(self._reading.keys) >= shared.limits.keys:
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
        await self._reading.admit(event.pubkey)

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
                    await self._websocket.close(CloseCode.TRY_AGAIN_LATER, LAGGING)
                else:
                    await self._websocket.close()
        except ConnectionClosed:
            pass
        except TimeoutError:
            # Else a client that reads nothing could hold the connection and its buffers for any time.
            self.abort()
