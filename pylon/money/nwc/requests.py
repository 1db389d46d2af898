"""Sends requests to a NIP-47 wallet over Nostr and matches their answers, as the wallet's client.

The events are ephemeral, so any answer can be lost, and NIP-47 has no idempotency key. So requests expire before we
stop waiting for their answers, which keeps a wallet from acting on them late, and only requests that change nothing
are repeated.
"""

import asyncio
from contextlib import suppress
from typing import Any

from pylon import log
from pylon.clock import Clock
from pylon.errors import PylonError, WireError
from pylon.money.nwc import answers, nip47
from pylon.money.nwc.nip47 import Info, Response, Scheme
from pylon.money.nwc.uri import NwcUri
from pylon.money.transport import Subscription, Transport
from pylon.money.wallet import Hint, WalletCode, WalletError
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.tasks import Tasks

logger = log.get("money")

ATTEMPTS = 3
# How long a wallet that has too much to do is left alone, the first time.
BUSY_S = 1.0
# An answer may still be on its way when its request expires.
ANSWER_GRACE_S = 2.0
QUEUE_HINTS = 1_000


class NwcRequests:
    """One connection to a wallet. `transport` is connected to the relays that the connection string names.

    Every method but `start` and `close` raises `WalletError`.
    """

    def __init__(self, uri: NwcUri, transport: Transport, clock: Clock, *, read_timeout_s: float) -> None:
        self._uri = uri
        self._transport = transport
        self._clock = clock
        self._read_timeout = read_timeout_s
        self._cipher = nip47.Cipher(uri.secret, uri.wallet)
        self._pending: dict[str, asyncio.Future[Response]] = {}
        self._hints: asyncio.Queue[Hint] = asyncio.Queue(QUEUE_HINTS)
        self._announced: Info | None = None
        self._announced_at = 0
        # Whether the wallet refused NIP-44 although it had announced it.
        self._only_nip04 = False
        self._closed = False
        self._subscription: Subscription | None = None
        self._tasks = Tasks()

    async def start(self) -> None:
        """Begins to listen. The wallet itself need not be there yet."""
        self._subscription = self._transport.subscribe(self._filters, name="nwc")
        self._tasks.start(self._listen(self._subscription), "wallet")

    async def close(self) -> None:
        """Stops listening. Waiting requests fail as timed out, and later ones are refused."""
        self._closed = True
        for future in self._pending.values():
            if not future.done():
                future.set_exception(WalletError(WalletCode.TIMEOUT, "the wallet connection was closed"))
        try:
            await self._tasks.close()
        finally:
            if self._subscription is not None:
                await self._subscription.close()

    async def ready(self) -> Info:
        """The wallet's announcement, fetched from its relays at the first call."""
        if self._announced is None:
            wanted = Filter(authors=frozenset({self._uri.wallet}), kinds=frozenset({nip47.INFO}))
            try:
                events = await self._transport.query((wanted,), timeout=self._read_timeout)
            except PylonError as error:
                raise WalletError(WalletCode.UNREACHABLE, f"the wallet's relays do not answer: {error}") from error
            for event in events:
                self._take_info(event)
        if self._announced is None:
            raise WalletError(
                WalletCode.UNREACHABLE,
                "the wallet has not announced itself on its relays",
                hint="Check that it runs, and that the connection string is still valid.",
            )
        return self._announced

    async def read(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Calls a method that changes nothing, again if its answer is lost, and returns the result."""
        return await self._until_done(method, params, frozenset({WalletCode.TIMEOUT, WalletCode.RATE_LIMITED}))

    async def make(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Calls a method that makes something and returns the result: again only if the wallet had too much to do,
        since it has done nothing then. After a lost answer it may have.
        """
        return await self._until_done(method, params, frozenset({WalletCode.RATE_LIMITED}))

    async def _until_done(self, method: str, params: dict[str, Any], again: frozenset[WalletCode]) -> dict[str, Any]:
        attempt = 1
        while True:
            try:
                return (await self.call(method, params, self._read_timeout)).result
            except WalletError as error:
                if self._closed or error.code not in again or attempt == ATTEMPTS:
                    raise
                if error.code is WalletCode.RATE_LIMITED:
                    await asyncio.sleep(attempt * BUSY_S)
            attempt += 1

    async def call(self, method: str, params: dict[str, Any], timeout: float) -> Response:
        """Sends one request, once, and returns its answer. `timeout` is in seconds."""
        info = await self.ready()
        scheme = Scheme.NIP04 if self._only_nip04 else info.best
        response = await self._exchange(scheme, method, params, timeout)
        if response.error == "UNSUPPORTED_ENCRYPTION" and scheme is Scheme.NIP44:
            self._only_nip04 = True
            response = await self._exchange(Scheme.NIP04, method, params, timeout)
        if response.error:
            raise WalletError(answers.code(response.error), f"the wallet says {response.error}: {response.message}")
        return response

    async def _exchange(self, scheme: Scheme, method: str, params: dict[str, Any], timeout: float) -> Response:
        if self._closed:
            # Nothing would receive the answer. `UNREACHABLE` says that the request was not sent.
            raise WalletError(WalletCode.UNREACHABLE, "the wallet connection was closed")
        now = int(self._clock.wall())
        draft = nip47.request_draft(
            self._cipher, scheme, method, params, now=now, expires_at=now + max(1, int(timeout))
        )
        event = self._uri.secret.sign(draft)
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._pending[event.id] = future
        try:
            async with asyncio.timeout(timeout + ANSWER_GRACE_S):
                await self._transport.publish(event)
                response = await future
        except TimeoutError as error:
            raise WalletError(
                WalletCode.TIMEOUT, f"the wallet did not answer {method} within {timeout:g} s"
            ) from error
        except WalletError:
            raise
        except PylonError as error:
            # A relay may have passed the request on without acknowledging it.
            raise WalletError(WalletCode.TIMEOUT, f"no relay acknowledged {method}: {error}") from error
        finally:
            del self._pending[event.id]
            future.cancel()
        if response.method != method and not response.error:
            raise WalletError(WalletCode.MALFORMED, f"the wallet answered {method} with {response.method[:40]!r}")
        return response

    async def hint(self) -> Hint:
        """Waits for the wallet's next notification of a payment."""
        return await self._hints.get()

    # --- what comes in ----------------------------------------------------------------------------------------

    def _filters(self) -> tuple[Filter, ...]:
        kinds = frozenset({nip47.RESPONSE, nip47.NOTIFICATION, nip47.NOTIFICATION_NIP04})
        wallet = frozenset({self._uri.wallet})
        us = {"p": frozenset({self._uri.secret.public})}
        # Relays apply `since` to live events too, so it allows for clocks that differ.
        since = int(self._clock.wall()) - nip47.CLOCK_SLACK_S
        return (
            Filter(authors=wallet, kinds=kinds, tags=us, since=since),
            Filter(authors=wallet, kinds=frozenset({nip47.INFO})),
        )

    async def _listen(self, subscription: Subscription) -> None:
        async for received in subscription:
            try:
                self._take(received.event)
            except WireError as error:
                logger.info("a wallet message cannot be read", error=str(error))
            except Exception:
                # A defect that one message brings about must not end the reading of others.
                logger.exception("a wallet message could not be processed")

    def _take(self, event: Event) -> None:
        if event.pubkey != self._uri.wallet:
            # Relays may send events that match no filter of ours.
            return
        if event.kind == nip47.INFO:
            self._take_info(event)
            return
        if event.tag("p") not in (None, self._uri.secret.public):
            return
        if event.kind == nip47.RESPONSE:
            future = self._pending.get(event.tag("e") or "")
            if future is not None and not future.done():
                try:
                    future.set_result(nip47.parse_response(event, self._cipher))
                except WireError as error:
                    # The wallet did answer: waiting longer brings nothing.
                    future.set_exception(
                        WalletError(WalletCode.MALFORMED, f"the wallet's answer is invalid: {error}")
                    )
        elif event.kind in (nip47.NOTIFICATION, nip47.NOTIFICATION_NIP04):
            kind, notification = nip47.parse_notification(event, self._cipher)
            payment_hash = notification.get("payment_hash")
            if kind in ("payment_received", "payment_sent") and isinstance(payment_hash, str):
                # A full queue loses hints only: the timer looks everything up.
                with suppress(asyncio.QueueFull):
                    self._hints.put_nowait(Hint(payment_hash[:64]))

    def _take_info(self, event: Event) -> None:
        # A relay may still have an older announcement, from when the wallet knew NIP-04 only.
        ours = event.pubkey == self._uri.wallet and event.kind == nip47.INFO
        if ours and event.created_at >= self._announced_at:
            self._announced, self._announced_at = nip47.parse_info(event), event.created_at
