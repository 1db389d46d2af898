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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from pylon.nostr.nip11 import RelayInformation, fetch_relay_information
from pylon.nostr.nip42 import auth_draft
from pylon.nostr.pacing import Pacer

logger = log.get("nostr")

MAX_FRAME_BYTES = 2 * 1024 * 1024
QUEUE_EVENTS = 4_096
# An endless stream of "try again" from a relay must not become an endless stream of requests.
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# What a relay says of its limits is waited for before it is first used, but no relay is left out for saying nothing.
LEARN_SECONDS = 1.0

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
    information: RelayInformation = field(default_factory=RelayInformation)


@dataclass(slots=True)
class _Publication:
    frame: str
    done: asyncio.Future[m.Ok]


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
        learn: Callable[[str], Awaitable[RelayInformation]] = fetch_relay_information,
    ) -> None:
        self.status = RelayStatus(url)
        self._learn_from = learn
        self._known = False
        self._queries = 0
        self._query_ended = asyncio.Event()
        self._pacer = Pacer(self._send_again)
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
        await self._pacer.close()
        self._set_state("closed")
        for publication in self._publications.values():
            if not publication.done.done():
                publication.done.set_exception(RelayError(f"{self.url} was closed before it answered"))
                # Read here, since whoever waited may have gone; asyncio would call that a fault.
                publication.done.exception()
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
            if self._pacer.busy:
                self._pacer.hold(event.id)
            else:
                await self._send(publication.frame)
        # Not `wait_for`: several may wait for one publication, and one that goes must not end it for the others.
        await asyncio.wait((publication.done,), timeout=timeout)
        if not publication.done.done():
            publication.done.cancel()
        if publication.done.cancelled():
            raise RelayError(f"{self.url} did not acknowledge an event within {timeout:g} s")
        ok = publication.done.result()
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
        found: dict[str, Event] = {}
        try:
            async with asyncio.timeout(timeout):
                while True:
                    page = await self._page(filters)
                    known = len(found)
                    found.update((event.id, event) for event in page)
                    # A relay leaves out what is over its limit without a word: the rest is older.
                    most = self.status.information.max_limit
                    full = most is not None and len(page) >= most and len(found) > known
                    if not full or any(f.limit is not None for f in filters):
                        break
                    oldest = min(event.created_at for event in page)
                    filters = tuple(replace(f, until=min(oldest, f.until or oldest)) for f in filters)
        except TimeoutError as error:
            raise RelayError(f"{self.url} did not answer a query within {timeout:g} s") from error
        return list(found.values())

    async def _page(self, filters: tuple[Filter, ...]) -> list[Event]:
        # Subscriptions that last have their place; queries take turns at what the relay allows besides.
        most = self.status.information.max_subscriptions
        while self._queries and most is not None and len(self._subscriptions) >= most:
            self._query_ended.clear()
            await self._query_ended.wait()
        self._queries += 1
        name, queue = self.subscribe(lambda: filters)
        found: list[Event] = []
        try:
            while not isinstance(item := await queue.get(), m.Eose):
                found.append(item)
        finally:
            self.unsubscribe(name)
            self._queries -= 1
            self._query_ended.set()
        return found

    # --- the connection -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while True:
            learning = asyncio.create_task(self._learn(), name=f"limits of {self.url}")
            try:
                # Content is ciphertext, which deflate cannot shorten by more than base64 lengthened it, and its
                # window costs 60 KiB a connection.
                async with connect(
                    self.url, compression=None, max_size=MAX_FRAME_BYTES, ping_timeout=60, close_timeout=2
                ) as socket:
                    attempt = 0
                    if not self._known:
                        await asyncio.wait({learning}, timeout=LEARN_SECONDS)
                    await self._serve(socket)
                reason = f"the relay closed the connection ({socket.close_code} {socket.close_reason})"
            except (OSError, WebSocketException, TimeoutError) as error:
                reason = f"{type(error).__name__}: {error}"
            finally:
                self._socket = None
                self._opened.clear()
                learning.cancel()
            attempt += 1
            self._set_state("connecting", reason)
            delay = self._backoff.delay(attempt, self._rng)
            logger.info("relay connection lost", relay=self.url, reason=reason, retry_s=round(delay, 1))
            await asyncio.sleep(delay)
            self.status.reconnects += 1

    async def _learn(self) -> None:
        # NIP-11. What was learnt before stays in force when the relay is asked again and says nothing.
        try:
            self.status.information = await self._learn_from(self.url)
        except (RelayError, MalformedError) as error:
            logger.debug("relay says nothing of its limits", relay=self.url, error=str(error))
        self._known = True

    async def _serve(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._auth_event = None
        self._set_state("open")
        for name in list(self._subscriptions):
            self._request(name)
        for event_id, publication in list(self._publications.items()):
            if event_id not in self._pacer:
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
        refused = not ok.accepted and reason == "rate-limited"
        self._pacer.answered(ok.event_id, refused=refused)
        if refused:
            return
        if ok.accepted or reason == "duplicate":
            publication.done.set_result(m.Ok(ok.event_id, True, ok.message))
        elif reason == "auth-required" and self._secret is not None:
            # It is sent again when the relay accepted who we are; the publisher's own time-out ends the wait.
            return
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
            filters = self.status.information.lowered(subscription.filters())
            self._send_later(m.encode(m.Req(name, filters)))

    async def _send_again(self, event_id: str) -> bool:
        publication = self._publications.get(event_id)
        if publication is None:
            return False
        await self._send(publication.frame)
        return True

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
