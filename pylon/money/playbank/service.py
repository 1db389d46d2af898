"""The playbank's NIP-47 wallet service over a relay; `methods` carries out the requests.

One service key serves all connections, which are told apart by the author of a request. It knows both encryptions,
and notifies of payments sent and received. A request that has expired, or was seen before, is not acted on.
"""

import asyncio
from collections import deque
from contextlib import suppress

from pylon import log
from pylon.clock import Clock
from pylon.errors import PylonError, WireError
from pylon.latest import Latest
from pylon.money.msat import Msat
from pylon.money.nwc import nip47
from pylon.money.nwc.nip47 import Cipher, ErrorCode, Request, Response, Scheme
from pylon.money.nwc.uri import NwcUri
from pylon.money.playbank.bank import BankError, BankInvoice, Connection, PlayBank
from pylon.money.playbank.methods import METHODS, NOTICES, BankMethods
from pylon.money.transport import Subscription, Transport
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import SEEN_IDS
from pylon.tasks import Tasks

logger = log.get("money")

REQUESTS_PER_S = 200
STRANGER_ANSWERS_PER_S = 5
IN_PARALLEL = 32
CIPHERS = 10_000
# How long until an announcement that was not taken is tried again.
ANNOUNCE_AGAIN_S = 30.0


class PlayBankService:
    """Serves a `PlayBank` to clients over relays. `key` signs both its events and its invoices."""

    def __init__(
        self,
        bank: PlayBank,
        key: SecretKey,
        transport: Transport,
        clock: Clock,
        *,
        requests_per_s: int = REQUESTS_PER_S,
    ) -> None:
        self._bank = bank
        self._methods = BankMethods(bank, key.public, clock, self._paid)
        self._key = key
        self._transport = transport
        self._clock = clock
        self._ciphers: Latest[str, Cipher] = Latest(CIPHERS)
        self._seen: Latest[str, None] = Latest(SEEN_IDS)
        self._rates: dict[str, _Rate] = {}
        self._requests_per_s = requests_per_s
        self._strangers = _Rate(STRANGER_ANSWERS_PER_S)
        self._slots = asyncio.Semaphore(IN_PARALLEL)
        self._listening = Tasks()
        # Requests that are being answered, and notifications that are being sent.
        self._work = Tasks("the playbank failed at a request")
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Announces the service and begins to serve. An announcement that no relay took is repeated later."""
        self._subscription = self._transport.subscribe(self._filters, name="playbank")
        self._listening.start(self._serve(self._subscription), "playbank")
        try:
            await self._announce()
        except PylonError as error:
            # Clients that know the service are served all the same, and so is whoever uses the relay otherwise.
            logger.warning(
                "wallets cannot find the playbank until a relay accepts its announcement; trying again",
                error=str(error),
                hint=("if the relay is full, raise `max_mb` in [relay]; if it has `kinds`, add kind 13194"),
            )
            self._listening.start(self._announce_later(), "playbank announcement")

    async def close(self) -> None:
        """Stops serving, once requests and notifications that were begun are finished."""
        try:
            await self._listening.close()
            while self._work:
                await self._work.wait()
                # A finished request may have started a notification; its own task ends in the next turn of the loop.
                await asyncio.sleep(0)
        finally:
            if self._subscription is not None:
                await self._subscription.close()

    async def open_link(
        self, account: str, relays: tuple[str, ...], *, can_pay: bool, budget: Msat | None = None
    ) -> NwcUri:
        """Makes a connection string for an account. Its secret is not kept here."""
        secret = SecretKey.generate()
        await self._bank.connect(secret.public, account, can_pay=can_pay, budget=budget)
        return NwcUri(self._key.public, relays, secret)

    async def _announce(self) -> None:
        await self._transport.publish(self._key.sign(nip47.info_draft(list(METHODS), list(NOTICES))))

    async def _announce_later(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE_AGAIN_S)
            with suppress(PylonError):
                await self._announce()
                logger.info("a relay accepted the playbank's announcement")
                return

    def _filters(self) -> tuple[Filter, ...]:
        # Requests are ephemeral: those sent while the service was down are lost, and their senders look them up.
        since = int(self._clock.wall()) - nip47.CLOCK_SLACK_S
        return (Filter(kinds=frozenset({nip47.REQUEST}), tags={"p": frozenset({self._key.public})}, since=since),)

    async def _serve(self, subscription: Subscription) -> None:
        async for received in subscription:
            event = received.event
            if event.kind != nip47.REQUEST or event.tag("p") != self._key.public or event.id in self._seen:
                continue
            self._seen.put(event.id, None)
            await self._slots.acquire()
            task = self._work.start(self._handle(event), "playbank request")
            task.add_done_callback(lambda _: self._slots.release())

    async def _handle(self, event: Event) -> None:
        if nip47.is_expired(event, self._clock.wall()):
            return
        connection = await self._bank.connection(event.pubkey)
        if connection is None and not self._strangers.take(self._clock.monotonic()):
            # An answer costs a key agreement and a signature, so strangers get few of them.
            return
        cipher = self._cipher(event.pubkey)
        try:
            request = nip47.parse_request(event, cipher)
        except WireError:
            request = None
        response = await self._respond(event, connection, request)
        if response is None:
            return
        scheme = Scheme.NIP44 if request is None else request.scheme
        await self._publish(self._key.sign(nip47.response_draft(cipher, scheme, event.id, response)))

    async def _respond(self, event: Event, connection: Connection | None, request: Request | None) -> Response | None:
        wanted = event.tag("encryption")
        if wanted is not None and wanted not in tuple(Scheme):
            return Response("unknown", error=ErrorCode.UNSUPPORTED_ENCRYPTION, message="nip44_v2 and nip04 are known")
        if request is None:
            return None
        method = request.method
        if connection is None:
            return Response(method, error=ErrorCode.UNAUTHORIZED, message="this key has no account here")
        rate = self._rates.setdefault(connection.client, _Rate(self._requests_per_s))
        if not rate.take(self._clock.monotonic()):
            return Response(method, error=ErrorCode.RATE_LIMITED, message="too many requests: wait a second")
        try:
            return Response(method, await self._methods.act(connection, method, request.params))
        except BankError as error:
            return Response(method, error=error.code, message=str(error))

    async def _notify(self, invoice: BankInvoice) -> None:
        for kind, account in (("payment_received", invoice.account), ("payment_sent", invoice.payer or "")):
            body = self._methods.transaction(invoice, account)
            for client in await self._bank.clients(account):
                cipher = self._cipher(client)
                # NIP-47: a service that knows both encryptions publishes both notices.
                for scheme in Scheme:
                    await self._publish(self._key.sign(nip47.notification_draft(cipher, scheme, kind, body)))

    def _paid(self, invoice: BankInvoice) -> None:
        self._work.start(self._notify(invoice), "playbank notification")

    async def _publish(self, event: Event) -> None:
        try:
            await self._transport.publish(event)
        except PylonError as error:
            # Clients look up what they are not told.
            logger.warning("the playbank could not publish", error=str(error))

    def _cipher(self, client: str) -> Cipher:
        cipher = self._ciphers.get(client)
        if cipher is None:
            cipher = Cipher(self._key, client)
            self._ciphers.put(client, cipher)
        return cipher


class _Rate:
    """Allows at most so many calls of `take` in any second."""

    def __init__(self, per_second: int) -> None:
        self._taken: deque[float] = deque(maxlen=per_second)

    def take(self, now: float) -> bool:
        full = len(self._taken) == self._taken.maxlen
        if full and now - self._taken[0] < 1.0:
            return False
        self._taken.append(now)
        return True
