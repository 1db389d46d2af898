"""One connection to one relay, kept for ever: reconnects, subscribes again, sends again what was not acknowledged.

The owner sees three things: `publish` (returns when the relay said OK), `subscribe` (events are handed over one by
one, stored ones first), and `query` (stored events up to EOSE). A connection that is down delays them; it does not
lose them.

A reader that falls behind takes no more, the socket is no longer read, and the relay notices. So nothing that
consumes a subscription may wait for a `publish` on the same connection.

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
from pylon.nostr.client.backoff import Backoff, Retries
from pylon.nostr.client.introduction import Introduction
from pylon.nostr.client.nip11 import RelayInformation, fetch_relay_information
from pylon.nostr.client.publications import Publications
from pylon.nostr.client.relay_status import RelayStatus as RelayStatus
from pylon.nostr.client.relay_words import RelayWords
from pylon.nostr.client.subscriptions import Deliver, Filters, Subscriptions
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.websocket.dialing import Dial
from pylon.nostr.websocket.opening import open_socket
from pylon.nostr.websocket.sending import Sender
from pylon.nostr.websocket.sockets import ClientSocket
from pylon.relay_url import normalize_relay_url
from pylon.tasks import Tasks
from pylon.text import clean_line

logger = log.get("nostr")

# What a relay says of its limits is waited for before it is first used, but no relay is left out for saying nothing.
LEARN_SECONDS = 1.0
# A clock that was set, or a machine that slept, is noticed within so long.
CLOCK_SECONDS = 5.0


class RelayConnection:
    """See the module. `secret` answers the relay's AUTH challenge; without one such relays stay closed to us.

    `dial` makes each connection, where not every address may be connected to.

    With a `url` that `normalize_relay_url` refuses it is closed for good: what needs the relay raises `RelayError`.
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
            # No later attempt makes an address of it.
            self._fault = f"{clean_line(url)!r} is not a relay address: {error}"
            self.status = RelayStatus(url, "closed", error=str(error))
        self._learn_from = learn if dial is None else partial(fetch_relay_information, dial=dial)
        self._dial = dial
        self._known = False
        self._clock = clock or SystemClock()
        self._retries = Retries(backoff or Backoff(), rng or random.Random())  # noqa: S311 - jitter, nothing secret
        # Whether this connection was of use: the relay did something that was asked of it.
        self._answered = False
        # What has moved the clock while this connection lasted, in words.
        self._moved = ""
        self._sender = Sender()
        self._opened = asyncio.Event()
        self._publications = Publications(url, self._sender.send, has_key=secret is not None)
        self._subscriptions = Subscriptions(
            url, self._sender.send_later, lambda: self.status.information, has_key=secret is not None
        )
        self._introduction = Introduction(
            url, secret, self._clock, self._sender.send_later, self._subscriptions.authenticated
        )
        self._notices = RelayWords()
        self._tasks = Tasks()

    @property
    def url(self) -> str:
        return self.status.url

    def start(self) -> None:
        """Begins to connect, and goes on for ever until `close`."""
        if self._fault:
            logger.warning("relay left out", error=self._fault)
            return
        self._tasks.start(self._run(), f"relay {self.url}")

    async def close(self) -> None:
        """Hangs up. Publications that wait raise `RelayError`."""
        try:
            await self._tasks.close()
        finally:
            # Whoever closes this may be cancelled, and those who wait for a relay's word would wait on.
            self.status.turn("closed", self._clock.wall())
            self._subscriptions.close()
            self._introduction.lost()
            await self._publications.close()

    async def wait_open(self, timeout: float) -> bool:
        """Whether the relay was connected within `timeout` seconds."""
        if self._fault:
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._opened.wait(), timeout)
        return self._opened.is_set()

    @property
    def refusal(self) -> str:
        """What the relay says that answers none of our subscriptions, or empty."""
        return self._subscriptions.refusal or (self.status.error if self._subscriptions.shut_out else "")

    async def publish(self, event: Event, *, timeout: float = 15.0, once: bool = False) -> m.Ok:
        """Sends the event until the relay acknowledges it, over reconnections too, if not `once`.

        Raises `RelayError` when the relay refuses it, `NotAcknowledgedError` when it does neither within `timeout`
        seconds; with `once` `ConnectionLostError` when it is not connected, or not any more, and as soon as the relay
        says so `RateLimitedError`, or `RelayError` when it does not let us in.
        """
        if self._fault:
            raise RelayError(self._fault)
        if once and not self._opened.is_set():
            raise ConnectionLostError(f"{self.url} is not connected ({self.status.error or 'connecting'})")
        return await self._publications.publish(event, timeout=timeout, once=once)

    def subscribe(self, filters: Filters, deliver: Deliver, *, name: str = "") -> str:
        """Opens a subscription that lasts until `unsubscribe`; its id. `deliver` takes what comes.

        `filters` is asked anew at each (re)connection, so that `since` can move on. Events are not verified yet: for
        a forged one `deliver` raises `WireError`, and a relay that floods us with them is hung up on for a while. An
        `Eose` says that stored events end there; it comes again after each reconnection.
        """
        return self._subscriptions.subscribe(filters, deliver, name=name)

    def unsubscribe(self, name: str) -> None:
        """Ends a subscription. Unknown ids are ignored."""
        self._subscriptions.unsubscribe(name)

    async def query(
        self, filters: tuple[Filter, ...], *, timeout: float = 10.0, known: dict[str, Event] | None = None
    ) -> list[Event]:
        """The stored events that match, verified, page by page where the relay bounds an answer.

        `known` are verified events by their ids; what is found is added. Of an answer beyond what the filters can
        match, or beyond 64 MiB for all queries here, the rest is left out. Raises `RelayError` when the relay did not
        finish its answer within `timeout` seconds, or sent much that is forged or was not asked for.
        """
        if self._fault:
            raise RelayError(self._fault)
        try:
            async with asyncio.timeout(timeout):
                await self._introduction.wait()
                return await self._subscriptions.query(filters, {} if known is None else known)
        except TimeoutError as error:
            raise RelayError(f"{self.url} did not answer a query within {timeout:g} s") from error

    # --- the connection -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            opened_at: float | None = None
            flooded, self._answered, self._moved = False, False, ""
            learning = self._tasks.start(self._learn(), f"limits of {self.url}")
            try:
                async with await open_socket(self.url, self._dial) as socket:
                    opened_at = self._clock.monotonic()
                    if not self._known:
                        await asyncio.wait({learning}, timeout=LEARN_SECONDS)
                    try:
                        await self._serve(socket)
                    except asyncio.CancelledError:
                        # By `close`: leaving the block on an exception would tell the relay of an error of ours.
                        await socket.close()
                        raise
                    except RelayError:
                        await socket.close(CloseCode.POLICY_VIOLATION)
                        raise
                why = clean_line(socket.close_reason or "")
                reason = f"the relay closed the connection ({socket.close_code} {why})"
            except (OSError, WebSocketException, TimeoutError) as error:
                reason = clean_line(f"{type(error).__name__}: {error}")
            except RelayError as error:
                reason, flooded = str(error), True
            except Exception as error:
                # A fault of ours in what takes the relay's messages must not leave this node deaf.
                reason = f"{type(error).__name__}: {error}"
                logger.exception("a relay's message could not be processed", relay=self.url)
            finally:
                self._sender.lost()
                self._publications.lost()
                self._opened.clear()
                self._introduction.lost()
                learning.cancel()
            reason = self._moved or reason
            self.status.turn("connecting", self._clock.wall(), reason)
            lasted = 0.0 if opened_at is None else self._clock.monotonic() - opened_at
            delay = self._retries.lost(lasted, answered=self._answered, flooded=flooded)
            # Whoever waits for a relay that is not there says so in words, once.
            tell, what = (
                (logger.debug, "relay not reached") if opened_at is None else (logger.info, "relay connection lost")
            )
            tell(what, relay=self.url, reason=reason, retry_s=round(delay, 1))
            await asyncio.sleep(delay)
            self.status.reconnects += 1

    async def _learn(self) -> None:
        # NIP-11. What was learnt before stays in force when the relay is asked again and says nothing.
        try:
            self.status.information = await self._learn_from(self.url)
        except (RelayError, MalformedError) as error:
            logger.debug("relay publishes no limits", relay=self.url, error=str(error))
        self._known = True

    async def _serve(self, socket: ClientSocket) -> None:
        watch = self._tasks.start(self._watch(socket, ClockMoves(self._clock)), f"clock for {self.url}")
        try:
            self._sender.socket = socket
            self._introduction.opened()
            self.status.turn("open", self._clock.wall())
            self._subscriptions.opened()
            self._sender.beside(self._publications.opened())
            self._opened.set()
            with suppress(ConnectionClosedOK):
                await socket.hand_to(self._take)
        finally:
            watch.cancel()

    async def _watch(self, socket: ClientSocket, moves: ClockMoves) -> None:
        """Hangs up when the clock has moved: what we said of the time, to prove who we are and in `since` of what is
        asked for, is of another one, and a relay goes by it for as long as the connection lasts."""
        while True:
            await asyncio.sleep(CLOCK_SECONDS)
            if moved := moves.said():
                self._moved = moved
                await socket.close()
                return

    def _take(self, frame: BytesLike, is_text: bool) -> Awaitable[None] | None:  # noqa: ARG002 - either may be JSON
        # Undecoded: whoever parses JSON checks UTF-8 as well.
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
            case m.Ok() if self._introduction.settles(message):
                self._authenticated(message)
            case m.Ok():
                self._answered = True
                self._publications.answered(message)
            case m.Closed(name, reason):
                self.status.closed(name, reason)
                self._subscriptions.refused(name, reason)
            case m.AuthChallenge(challenge):
                self._introduction.challenged(challenge)
            case m.Notice(text):
                self.status.noticed(text)
                self._log_notice(text)
            case _:
                pass
        return None

    def _log_notice(self, text: str) -> None:
        if text.startswith("auth-required:"):
            # While we introduce ourselves it is no news that we have not.
            logger.debug("relay notice", relay=self.url, text=text)
        elif (beside := self._notices.tell(self._clock.monotonic())) is not None:
            logger.info("relay notice", relay=self.url, text=text, **beside)

    def _authenticated(self, ok: m.Ok) -> None:
        if not ok.accepted:
            error = f"the relay refused our key: {ok.message}"
            # It is proved again and again, and refused in the same words that is no news.
            told = logger.debug if error == self.status.error else logger.warning
            told("relay refused authentication", relay=self.url, reason=ok.message)
            self.status.error = error
            self._publications.shut_out(ok.message)
            return
        self.status.let_in()
        self._sender.beside(self._publications.authenticated())
