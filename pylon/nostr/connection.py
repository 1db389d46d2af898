"""One connection to one relay, kept for ever: reconnects, subscribes again, sends again what was not acknowledged.

The owner sees three things: `publish` (returns when the relay said OK), `subscribe` (events arrive in a bounded
queue, stored ones first), and `query` (stored events up to EOSE). A connection that is down delays them; it does
not lose them.

A reader that falls behind fills its queue, the socket is no longer read, and the relay notices. So nothing that
consumes a subscription may wait for a `publish` on the same connection.

Source: NIP-01 "Communication between clients and relays", NIP-42.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from pylon import log
from pylon.clock import Clock, SystemClock
from pylon.errors import MalformedError, RelayError
from pylon.nostr import messages as m
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip42 import auth_draft

logger = log.get("nostr")

MAX_FRAME_BYTES = 2 * 1024 * 1024
QUEUE_EVENTS = 4_096
# An endless stream of "try again" from a relay must not become an endless stream of requests.
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

type Filters = Callable[[], tuple[Filter, ...]]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before the next attempt: doubling from `first` to `most`, a random half of it taken away."""

    first: float = 0.5
    most: float = 60.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """The wait after `attempt` failures in a row (1, 2, …)."""
        full = min(self.most, self.first * 2.0 ** min(attempt - 1, 30))
        return full * float(rng.uniform(0.5, 1.0))


@dataclass(slots=True)
class RelayStatus:
    """What `pylon status` says of a relay. Times are Unix seconds."""

    url: str
    state: Literal["connecting", "open", "closed"] = "connecting"
    since: float = 0.0
    reconnects: int = 0
    error: str = ""
    notice: str = ""


@dataclass(slots=True)
class _Publication:
    frame: str
    done: asyncio.Future[m.Ok]
    refusals: int = 0


@dataclass(slots=True)
class _Subscription:
    filters: Filters
    queue: asyncio.Queue[Event | m.Eose]
    refusals: int = 0
    waits_for_auth: bool = False
    retry: asyncio.TimerHandle | None = field(default=None, repr=False)


class RelayConnection:
    """See the module. `secret` answers the relay's AUTH challenge; without one such relays stay closed to us."""

    def __init__(
        self,
        url: str,
        *,
        secret: SecretKey | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.status = RelayStatus(url)
        self._secret = secret
        self._clock = clock or SystemClock()
        self._backoff = backoff or Backoff()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, nothing secret
        self._socket: ClientConnection | None = None
        self._opened = asyncio.Event()
        self._publications: dict[str, _Publication] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._auth_event: str | None = None
        self._names = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return self.status.url

    def start(self) -> None:
        """Begins to connect, and goes on for ever until `close`."""
        self._task = asyncio.create_task(self._run(), name=f"relay {self.url}")

    async def close(self) -> None:
        """Hangs up. Publications that wait raise `RelayError`."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._set_state("closed")
        for publication in self._publications.values():
            if not publication.done.done():
                publication.done.set_exception(RelayError(f"{self.url} was closed before it answered"))
        for subscription in self._subscriptions.values():
            if subscription.retry is not None:
                subscription.retry.cancel()

    async def wait_open(self, timeout: float) -> bool:
        """Whether the relay was connected within `timeout` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._opened.wait(), timeout)
        return self._opened.is_set()

    async def publish(self, event: Event, *, timeout: float = 15.0) -> m.Ok:
        """Sends the event until the relay acknowledges it, over reconnections too.

        Raises `RelayError` when the relay refuses it, or says nothing within `timeout` seconds.
        """
        publication = self._publications.get(event.id)
        if publication is None:
            publication = _Publication(m.encode(m.EventMessage(event)), asyncio.get_running_loop().create_future())
            self._publications[event.id] = publication
            publication.done.add_done_callback(lambda _: self._publications.pop(event.id, None))
            await self._send(publication.frame)
        try:
            ok = await asyncio.wait_for(asyncio.shield(publication.done), timeout)
        except TimeoutError as error:
            publication.done.cancel()
            raise RelayError(f"{self.url} did not acknowledge an event within {timeout:g} s") from error
        if not ok.accepted:
            raise RelayError(f"{self.url} refused an event: {ok.message}")
        return ok

    def subscribe(self, filters: Filters, *, name: str = "") -> tuple[str, asyncio.Queue[Event | m.Eose]]:
        """Opens a subscription that lasts until `unsubscribe`; its id, and the queue of what comes.

        `filters` is asked anew at each (re)connection, so that `since` can move on. Events are not verified yet.
        An `Eose` in the queue says that stored events end there; it comes again after each reconnection.
        """
        self._names += 1
        name = f"{name or 'q'}{self._names}"
        queue: asyncio.Queue[Event | m.Eose] = asyncio.Queue(QUEUE_EVENTS)
        self._subscriptions[name] = _Subscription(filters, queue)
        self._request(name)
        return name, queue

    def unsubscribe(self, name: str) -> None:
        """Ends a subscription. Unknown ids are ignored."""
        subscription = self._subscriptions.pop(name, None)
        if subscription is None:
            return
        if subscription.retry is not None:
            subscription.retry.cancel()
        # A reader that waits for room in this queue would wait for ever: there is nobody left to make room.
        while not subscription.queue.empty():
            subscription.queue.get_nowait()
        self._send_later(m.encode(m.Close(name)))

    async def query(self, filters: tuple[Filter, ...], *, timeout: float = 10.0) -> list[Event]:
        """The stored events that match, not verified yet.

        Raises `RelayError` when the relay did not finish its answer within `timeout` seconds.
        """
        name, queue = self.subscribe(lambda: filters)
        found: list[Event] = []
        try:
            async with asyncio.timeout(timeout):
                while not isinstance(item := await queue.get(), m.Eose):
                    found.append(item)
        except TimeoutError as error:
            raise RelayError(f"{self.url} did not answer a query within {timeout:g} s") from error
        finally:
            self.unsubscribe(name)
        return found

    # --- the connection -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                # Content is ciphertext, which deflate cannot shorten by more than base64 lengthened it, and its
                # window costs 60 KiB a connection.
                async with connect(
                    self.url, compression=None, max_size=MAX_FRAME_BYTES, ping_timeout=60, close_timeout=2
                ) as socket:
                    attempt = 0
                    await self._serve(socket)
                reason = f"the relay closed the connection ({socket.close_code} {socket.close_reason})"
            except (OSError, WebSocketException, TimeoutError) as error:
                reason = f"{type(error).__name__}: {error}"
            finally:
                self._socket = None
                self._opened.clear()
            attempt += 1
            self._set_state("connecting", reason)
            delay = self._backoff.delay(attempt, self._rng)
            logger.info("relay connection lost", relay=self.url, reason=reason, retry_s=round(delay, 1))
            await asyncio.sleep(delay)
            self.status.reconnects += 1

    async def _serve(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._auth_event = None
        self._set_state("open")
        for name in list(self._subscriptions):
            self._request(name)
        for publication in list(self._publications.values()):
            await socket.send(publication.frame)
        self._opened.set()
        async for frame in socket:
            try:
                message = m.parse_relay_message(frame)
            except MalformedError as error:
                logger.debug("relay sent something malformed", relay=self.url, error=str(error))
                continue
            await self._receive(message)

    async def _receive(self, message: m.RelayMessage) -> None:
        match message:
            case m.EventMessage(event, name):
                subscription = self._subscriptions.get(name)
                if subscription is not None:
                    await subscription.queue.put(event)
            case m.Eose(name):
                subscription = self._subscriptions.get(name)
                if subscription is not None:
                    subscription.refusals = 0
                    await subscription.queue.put(message)
            case m.Ok():
                await self._receive_ok(message)
            case m.Closed(name, reason):
                self._receive_closed(name, reason)
            case m.AuthChallenge(challenge):
                await self._authenticate(challenge)
            case m.Notice(text):
                self.status.notice = text
                logger.info("relay notice", relay=self.url, text=text)
            case _:
                pass

    async def _receive_ok(self, ok: m.Ok) -> None:
        if ok.event_id == self._auth_event:
            await self._authenticated(ok)
            return
        publication = self._publications.get(ok.event_id)
        if publication is None or publication.done.done():
            return
        reason = ok.message.partition(":")[0]
        if ok.accepted or reason == "duplicate":
            publication.done.set_result(m.Ok(ok.event_id, True, ok.message))
        elif reason == "auth-required" and self._secret is not None:
            # It is sent again when the relay accepted who we are; the publisher's own time-out ends the wait.
            return
        elif reason == "rate-limited":
            delay = RETRY_SECONDS[min(publication.refusals, len(RETRY_SECONDS) - 1)]
            publication.refusals += 1
            asyncio.get_running_loop().call_later(delay, self._send_again, ok.event_id)
        else:
            publication.done.set_result(ok)

    def _receive_closed(self, name: str, reason: str) -> None:
        subscription = self._subscriptions.get(name)
        if subscription is None:
            return
        self.status.notice = f"subscription closed: {reason}"
        if reason.startswith("auth-required") and self._secret is not None:
            subscription.waits_for_auth = True
            return
        delay = RETRY_SECONDS[min(subscription.refusals, len(RETRY_SECONDS) - 1)]
        subscription.refusals += 1
        logger.warning("relay closed a subscription", relay=self.url, reason=reason, retry_s=delay)
        subscription.retry = asyncio.get_running_loop().call_later(delay, self._request, name)

    # --- NIP-42 ---------------------------------------------------------------------------------------------

    async def _authenticate(self, challenge: str) -> None:
        if self._secret is None:
            return
        event = self._secret.sign(auth_draft(self.url, challenge, int(self._clock.wall())))
        self._auth_event = event.id
        await self._send(m.encode(m.Auth(event)))

    async def _authenticated(self, ok: m.Ok) -> None:
        self._auth_event = None
        if not ok.accepted:
            self.status.error = f"the relay refused our key: {ok.message}"
            logger.warning("relay refused authentication", relay=self.url, reason=ok.message)
            return
        for name, subscription in list(self._subscriptions.items()):
            if subscription.waits_for_auth:
                subscription.waits_for_auth = False
                self._request(name)
        for publication in list(self._publications.values()):
            await self._send(publication.frame)

    # --- sending --------------------------------------------------------------------------------------------

    def _request(self, name: str) -> None:
        subscription = self._subscriptions.get(name)
        if subscription is not None and self._socket is not None:
            self._send_later(m.encode(m.Req(name, subscription.filters())))

    def _send_again(self, event_id: str) -> None:
        publication = self._publications.get(event_id)
        if publication is not None:
            self._send_later(publication.frame)

    def _send_later(self, frame: str) -> None:
        if self._socket is not None:
            task = asyncio.get_running_loop().create_task(self._send(frame))
            # The loop keeps weak references only; the name binds it until it is done.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _send(self, frame: str) -> None:
        if self._socket is not None:
            # What could not be sent is sent again by `_serve` when the connection is back.
            with suppress(WebSocketException, OSError):
                await self._socket.send(frame)

    def _set_state(self, state: Literal["connecting", "open", "closed"], error: str = "") -> None:
        self.status.state = state
        self.status.since = self._clock.wall()
        self.status.error = error
