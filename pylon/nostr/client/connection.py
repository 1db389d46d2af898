"""One relay, for as long as we use it: reconnects, subscribes again, and sends again what was not acknowledged.

It offers `publish` (returns when the relay said OK), `subscribe` (delivers events one by one, stored ones first) and
`query` (stored events up to EOSE). A connection that is down delays these, and loses nothing.

When the reader of a subscription falls behind, the socket is not read, OKs included. So a reader must not wait for a
`publish` on the same connection.

Source: NIP-01 "Communication between clients and relays", NIP-42.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from websockets.exceptions import ConnectionClosedOK, WebSocketException
from websockets.frames import CloseCode
from websockets.typing import BytesLike

from pylon import log
from pylon.clock import Clock, ClockMoves, SystemClock
from pylon.errors import ConnectionLostError, MalformedError, RelayError
from pylon.nostr import messages as m
from pylon.nostr.client.authentication import Authentication
from pylon.nostr.client.backoff import Backoff, Retries
from pylon.nostr.client.log_limit import LogLimit
from pylon.nostr.client.nip11 import RelayInformation, fetch_relay_information
from pylon.nostr.client.publications import Publications
from pylon.nostr.client.relay_status import RelayStatus as RelayStatus
from pylon.nostr.client.subscriptions import Deliver, Filters, Subscriptions
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.websocket.dialing import Dial
from pylon.nostr.websocket.local_address import is_still_ours
from pylon.nostr.websocket.opening import open_socket, why_not_open
from pylon.nostr.websocket.sending import Sender
from pylon.nostr.websocket.sockets import ClientSocket
from pylon.relay_url import normalize_relay_url
from pylon.tasks import Tasks
from pylon.text import clean_line

logger = log.get("nostr")

# How long a relay's first use waits for its limits (NIP-11). A relay that publishes none is used all the same.
LEARN_SECONDS = 1.0
# How often to look whether the clock was set, the machine slept or its network is another.
CLOCK_SECONDS = 5.0
# While somebody waits for a relay that is away, it is tried again this often, however long it has been away. In a
# long wait it is tried less often: each time that the wait has grown by this share.
WANTED_SECONDS, WANTED_SHARE = 2.0, 0.1


class RelayConnection:
    """Publishes to one relay and reads from it. `secret` answers its AUTH challenges (NIP-42); None leaves them open.

    `dial` makes each connection, where not every address may be connected to. `learn` fetches the relay's limits.

    With a `url` that `normalize_relay_url` refuses it never connects, and every operation raises `RelayError`.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: SecretKey | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
        learn: Callable[[str], Awaitable[RelayInformation]] = fetch_relay_information,
        dial: Dial | None = None,
    ) -> None:
        self._fault = ""
        try:
            url = normalize_relay_url(url)
            self.status = RelayStatus(url)
        except MalformedError as error:
            # Trying again would not help.
            self._fault = f"{clean_line(url)!r} is not a relay address: {error}"
            self.status = RelayStatus(url, "closed", error=str(error))
        self._learn_from = learn if dial is None else partial(fetch_relay_information, dial=dial)
        self._dial = dial
        self._known = False
        self._clock = clock or SystemClock()
        self._retries = Retries(backoff or Backoff(), rng or random.Random())  # noqa: S311 - jitter, nothing secret
        # When this connection opened, in monotonic seconds; None while it has not.
        self._opened_at: float | None = None
        # Whether the relay did something that we asked for, on this connection.
        self._answered = False
        # How the clock or the machine moved during this connection, in words.
        self._moved = ""
        self._sender = Sender()
        self._opened = asyncio.Event()
        # How many wait for it to open, and when the last of them began to, in the event loop's time; the event is set
        # when somebody began to since the last attempt.
        self._waiting, self._wanted_at = 0, 0.0
        self._wanted = asyncio.Event()
        self._publications = Publications(url, self._sender.send, has_key=secret is not None)
        self._subscriptions = Subscriptions(
            url, self._sender.send_later, lambda: self.status.information, has_key=secret is not None
        )
        self._authentication = Authentication(
            url, secret, self._clock, self._sender.send_later, self._subscriptions.authenticated
        )
        self._notices = LogLimit()
        self._tasks = Tasks()

    @property
    def url(self) -> str:
        return self.status.url

    def start(self) -> None:
        """Begin to connect, and to reconnect until `close`."""
        if self._fault:
            logger.warning("relay left out", error=self._fault)
            return
        self._tasks.start(self._run(), f"relay {self.url}")

    async def close(self) -> None:
        """Disconnect. Publications that wait raise `RelayError`."""
        try:
            await self._tasks.close()
        finally:
            # Also when `close` is cancelled: those who wait for an answer would wait for ever.
            self.status.turn("closed", self._clock.wall())
            self._subscriptions.close()
            self._authentication.lost()
            await self._publications.close()

    async def wait_open(self, timeout: float) -> bool:
        """Whether the relay was connected within `timeout` seconds. Meanwhile it is tried more often."""
        if self._fault or self._opened.is_set():
            return self._opened.is_set()
        self._waiting, self._wanted_at = self._waiting + 1, asyncio.get_running_loop().time()
        self._wanted.set()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), timeout)
        finally:
            self._waiting -= 1
        return self._opened.is_set()

    @property
    def refusal(self) -> str:
        """Why the relay refuses all of our subscriptions, in its words; empty when it does not."""
        return self._subscriptions.refusal or (self.status.error if self._subscriptions.shut_out else "")

    async def publish(self, event: Event, *, timeout: float = 15.0, once: bool = False) -> m.Ok:
        """Send the event until the relay acknowledges it, again after reconnections; with `once` a single time.

        Raises `RelayError` when the relay refuses it, and `NotAcknowledgedError` when it does neither within
        `timeout` seconds. With `once` it also raises `ConnectionLostError` when the relay is not connected or the
        connection ends, and at the relay's word `RateLimitedError`, or `RelayError` when our key is not let in.
        """
        if self._fault:
            raise RelayError(self._fault)
        if once and not self._opened.is_set():
            raise ConnectionLostError(f"{self.url} is not connected ({self.status.error or 'connecting'})")
        return await self._publications.publish(event, timeout=timeout, once=once)

    def subscribe(self, filters: Filters, deliver: Deliver, *, name: str = "") -> str:
        """Open a subscription that lasts until `unsubscribe`; returns its id. `deliver` takes each event.

        `filters` is called at each (re)connection, so that `since` can move on. Events are not verified yet: for a
        forged one `deliver` raises `WireError`, and a relay that floods us with those is disconnected for a while. An
        `Eose` is delivered where stored events end, again after each reconnection.
        """
        return self._subscriptions.subscribe(filters, deliver, name=name)

    def unsubscribe(self, name: str) -> None:
        """End a subscription. Unknown ids are ignored."""
        self._subscriptions.unsubscribe(name)

    async def query(
        self, filters: tuple[Filter, ...], *, timeout: float = 10.0, known: dict[str, Event] | None = None
    ) -> list[Event]:
        """The stored events that match, verified; asked for page by page where the relay limits an answer.

        `known` are events by id that are verified already; found ones are added to it. An answer is cut where it
        holds more than the filters can match, or all queries here hold more than 64 MiB. Raises `RelayError` when the
        answer is not complete within `timeout` seconds, or holds too much that is forged or was not asked for.
        """
        if self._fault:
            raise RelayError(self._fault)
        try:
            async with asyncio.timeout(timeout):
                await self._authentication.wait()
                return await self._subscriptions.query(filters, {} if known is None else known)
        except TimeoutError as error:
            raise RelayError(f"{self.url} did not answer a query within {timeout:g} s") from error

    # --- the connection -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._opened_at, self._answered, self._moved, flooded = None, False, "", False
            try:
                reason = await self._connect()
            except (OSError, WebSocketException, TimeoutError) as error:
                reason = why_not_open(error)
            except RelayError as error:
                reason, flooded = str(error), True
            except Exception as error:
                # An error in our handling of a message must not end this connection for good.
                reason = f"{type(error).__name__}: {error}"
                logger.exception("a relay's message could not be processed", relay=self.url)
            reason = self._moved or reason
            self.status.turn("connecting", self._clock.wall(), reason)
            lasted = 0.0 if self._opened_at is None else self._clock.monotonic() - self._opened_at
            delay = self._retries.lost(lasted, answered=self._answered, flooded=flooded)
            if self._opened_at is None:
                # No news: those who wait for the relay report it, once.
                logger.debug("relay not reached", relay=self.url, reason=reason, retry_s=round(delay, 1))
            else:
                logger.info("relay connection lost", relay=self.url, reason=reason, retry_s=round(delay, 1))
            if flooded:
                await asyncio.sleep(delay)
            else:
                await self._pause(delay)
            self.status.reconnects += 1

    async def _connect(self) -> str:
        """Use one connection from its opening to its end; returns why the relay closed it.

        Raises what `open_socket` raises, and `RelayError` for a relay that floods us.
        """
        learning = self._tasks.start(self._learn(), f"limits of {self.url}")
        try:
            async with await open_socket(self.url, self._dial) as socket:
                self._opened_at = self._clock.monotonic()
                if not self._known:
                    await asyncio.wait({learning}, timeout=LEARN_SECONDS)
                try:
                    await self._serve(socket)
                except asyncio.CancelledError:
                    # `close` was called: leaving the block by an exception would close with an error code.
                    await socket.close()
                    raise
                except RelayError:
                    await socket.close(CloseCode.POLICY_VIOLATION)
                    raise
            why = clean_line(socket.close_reason or "")
            return f"the relay closed the connection ({socket.close_code} {why})"
        finally:
            self._sender.lost()
            self._publications.lost()
            self._opened.clear()
            self._authentication.lost()
            learning.cancel()

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; less where the network may be there again, as after the machine has slept,
        and where somebody waits for the relay.
        """
        loop, moves = asyncio.get_running_loop(), ClockMoves(self._clock)
        begun = loop.time()
        if self._waiting:
            seconds = min(seconds, max(WANTED_SECONDS, (begun - self._wanted_at) * WANTED_SHARE))
        until = begun + seconds
        self._wanted.clear()
        await asyncio.sleep(min(seconds, WANTED_SECONDS))
        while not self._wanted.is_set() and (left := until - loop.time()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), min(left, CLOCK_SECONDS))
            if moves.in_words():
                # The network takes some seconds to be there: they are not to count as failures from before.
                self._retries.start_anew()
                return

    async def _learn(self) -> None:
        # NIP-11. When the relay is asked again and does not answer, what it said before stays in force.
        try:
            self.status.information = await self._learn_from(self.url)
        except (RelayError, MalformedError) as error:
            logger.debug("relay publishes no limits", relay=self.url, error=str(error))
        self._known = True

    async def _serve(self, socket: ClientSocket) -> None:
        watch = self._tasks.start(self._watch(socket, ClockMoves(self._clock)), f"clock for {self.url}")
        try:
            self._sender.socket = socket
            self._authentication.opened()
            self.status.turn("open", self._clock.wall())
            self._subscriptions.opened()
            self._sender.beside(self._publications.opened())
            self._opened.set()
            with suppress(ConnectionClosedOK):
                await socket.deliver_to(self._take)
        finally:
            watch.cancel()

    async def _watch(self, socket: ClientSocket, moves: ClockMoves) -> None:
        """Disconnect when the clock or the machine has moved.

        AUTH and the `since` of subscriptions were written by the old time, and the relay goes by them for as long as
        the connection lasts. In another network the connection is dead.
        """
        while True:
            await asyncio.sleep(CLOCK_SECONDS)
            moved = moves.in_words()
            if not moved and not is_still_ours(socket.local_address):
                moved = "this machine has another network address"
            if moved:
                self._moved = moved
                await socket.close()
                return

    def _take(self, frame: BytesLike, is_text: bool) -> Awaitable[None] | None:  # noqa: ARG002 - either may be JSON
        # Left undecoded: the JSON parser checks UTF-8 as well.
        try:
            message = m.parse_relay_message(frame)
        except MalformedError as error:
            logger.debug("relay sent something malformed", relay=self.url, error=str(error))
            return None
        return self._receive(message)

    def _receive(self, message: m.RelayMessage) -> Awaitable[None] | None:
        if type(message) is m.EventMessage:
            return self._subscriptions.receive(message.subscription, message.event)
        match message:
            case m.Eose(name):
                self._answered = True
                self.status.answered(name)
                return self._subscriptions.receive(name, message)
            case m.Ok() if self._authentication.settles(message):
                self._authenticated(message)
            case m.Ok():
                self._answered = True
                self._publications.answered(message)
            case m.Closed(name, reason):
                self.status.closed(name, reason)
                self._subscriptions.refused(name, reason)
            case m.AuthChallenge(challenge):
                self._authentication.challenged(challenge)
            case m.Notice(text):
                self.status.noticed(text)
                self._log_notice(text)
            case _:
                pass
        return None

    def _log_notice(self, text: str) -> None:
        if text.startswith("auth-required:"):
            # Expected while authentication is under way.
            logger.debug("relay notice", relay=self.url, text=text)
        elif (beside := self._notices.admit(self._clock.monotonic())) is not None:
            logger.info("relay notice", relay=self.url, text=text, **beside)

    def _authenticated(self, ok: m.Ok) -> None:
        if not ok.accepted:
            error = f"the relay refused our key: {ok.message}"
            # Authentication is repeated. To be refused in the same words again is no news.
            told = logger.debug if error == self.status.error else logger.warning
            told("relay refused authentication", relay=self.url, reason=ok.message)
            self.status.error = error
            self._publications.shut_out(ok.message)
            return
        self.status.let_in()
        self._sender.beside(self._publications.authenticated())
