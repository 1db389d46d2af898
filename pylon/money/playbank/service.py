"""The playbank's door: a NIP-47 wallet service over a relay.

One service key for all connections; a request's author says whose it is. Both encryptions, notices of payments
sent and received, NIP-47's error codes. A request that has expired, or was seen before, is not acted on.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from pylon import log
from pylon.clock import Clock
from pylon.errors import PylonError, WireError
from pylon.money.invoices.invoice import DEFAULT_EXPIRY_S
from pylon.money.msat import MAX_MSAT, Msat
from pylon.money.network import Network
from pylon.money.nwc import nip47
from pylon.money.nwc.nip47 import Cipher, ErrorCode, Request, Response, Scheme
from pylon.money.nwc.uri import NwcUri
from pylon.money.playbank.bank import BankError, BankInvoice, Connection, PlayBank
from pylon.money.transport import Subscription, Transport
from pylon.nostr.event import Event, is_hex64
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import SeenIds

logger = log.get("money")

RECEIVE_METHODS = ("get_info", "get_balance", "make_invoice", "lookup_invoice", "list_transactions")
METHODS = ("pay_invoice", *RECEIVE_METHODS)
NOTICES = ("payment_received", "payment_sent")
PAGE = 20
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
        self._key = key
        self._transport = transport
        self._clock = clock
        self._ciphers: OrderedDict[str, Cipher] = OrderedDict()
        self._seen = SeenIds()
        self._rates: dict[str, _Rate] = {}
        self._requests_per_s = requests_per_s
        self._strangers = _Rate(STRANGER_ANSWERS_PER_S)
        self._slots = asyncio.Semaphore(IN_PARALLEL)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._reader: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announces itself and begins to serve. An announcement that no relay takes is tried again until one does."""
        self._subscription = self._transport.subscribe(self._filters, name="playbank")
        self._reader = asyncio.create_task(self._serve(self._subscription), name="playbank")
        try:
            await self._announce()
        except PylonError as error:
            # Those who know it already are served, and the relay beside it has other things to do.
            logger.warning(
                "no wallet finds the playbank before a relay takes its announcement; it is tried again",
                error=str(error),
                hint="a full relay needs a larger `max_mb` in [relay], one with `kinds` kind 13194 among them",
            )
            self._announcing = asyncio.create_task(self._announce_later(), name="playbank announcement")

    async def close(self) -> None:
        """Stops serving. What was begun is finished first."""
        for task in (self._reader, self._announcing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()

    async def open_link(
        self, account: str, relays: tuple[str, ...], *, can_pay: bool, budget: Msat | None = None
    ) -> NwcUri:
        """A new connection string for an account. Its secret is kept nowhere here."""
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
                logger.info("a relay took the playbank's announcement")
                return

    def _filters(self) -> tuple[Filter, ...]:
        # Requests are ephemeral: what was sent while we were away is gone, and its sender looks it up.
        since = int(self._clock.wall()) - nip47.CLOCK_SLACK_S
        return (Filter(kinds=frozenset({nip47.REQUEST}), tags={"p": frozenset({self._key.public})}, since=since),)

    async def _serve(self, subscription: Subscription) -> None:
        async for received in subscription:
            event = received.event
            if event.kind != nip47.REQUEST or event.tag("p") != self._key.public or event.id in self._seen:
                continue
            self._seen.add(event.id)
            await self._slots.acquire()
            task = asyncio.create_task(self._handle(event))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            logger.error("playbank request failed", error=repr(task.exception()))

    async def _handle(self, event: Event) -> None:
        if nip47.is_expired(event, self._clock.wall()):
            return
        connection = await self._bank.connection(event.pubkey)
        if connection is None and not self._strangers.take(self._clock.monotonic()):
            # An answer costs a key agreement and a signature: strangers get few of them.
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
            return Response(method, await self._act(connection, method, request.params))
        except BankError as error:
            return Response(method, error=error.code, message=str(error))

    async def _act(self, connection: Connection, method: str, params: dict[str, Any]) -> dict[str, Any]:
        act: Callable[[Connection, dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]
        match method:
            case "pay_invoice":
                act = self._pay_invoice
            case "make_invoice":
                act = self._make_invoice
            case "lookup_invoice":
                act = self._lookup_invoice
            case "list_transactions":
                act = self._list_transactions
            case "get_balance":
                return {"balance": int(await self._bank.balance(connection.account))}
            case "get_info":
                return self._info(connection)
            case _:
                raise BankError(ErrorCode.NOT_IMPLEMENTED, "this bank does not know that method")
        return await act(connection, params)

    def _info(self, connection: Connection) -> dict[str, Any]:
        return {
            "alias": "Pylon playbank",
            "color": "#888888",
            "pubkey": self._key.public,
            "network": Network.PLAY.value,
            "block_height": 0,
            "block_hash": "0" * 64,
            "methods": list(METHODS if connection.can_pay else RECEIVE_METHODS),
            "notifications": list(NOTICES),
        }

    async def _make_invoice(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        amount, expiry = params.get("amount"), params.get("expiry", DEFAULT_EXPIRY_S)
        if type(amount) is not int or not 0 < amount <= MAX_MSAT or type(expiry) is not int:
            raise BankError(ErrorCode.OTHER, "amount is in msat, expiry in seconds")
        invoice = await self._bank.make_invoice(
            connection.account, Msat(amount), description=str(params.get("description") or ""), expiry_s=expiry
        )
        return self._transaction(invoice, connection.account)

    async def _lookup_invoice(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        payment_hash, text = params.get("payment_hash"), params.get("invoice")
        invoice = await self._bank.find(
            connection.account,
            payment_hash=payment_hash if is_hex64(payment_hash) and isinstance(payment_hash, str) else "",
            text=text if isinstance(text, str) else "",
        )
        if invoice is None:
            raise BankError(ErrorCode.NOT_FOUND, "there is no such invoice or payment here")
        return self._transaction(invoice, connection.account)

    async def _list_transactions(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        def number(name: str, default: int) -> int:
            value = params.get(name)
            return value if type(value) is int and 0 <= value <= MAX_MSAT else default

        invoices = await self._bank.history(
            connection.account,
            limit=min(number("limit", PAGE), PAGE),
            offset=number("offset", 0),
            since=number("from", 0),
            until=number("until", MAX_MSAT),
        )
        listed = [self._transaction(invoice, connection.account) for invoice in invoices]
        if params.get("unpaid") is not True:
            listed = [item for item in listed if item["state"] == "settled"]
        if params.get("type") in ("incoming", "outgoing"):
            listed = [item for item in listed if item["type"] == params["type"]]
        return {"transactions": listed}

    async def _pay_invoice(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        if not connection.can_pay:
            raise BankError(ErrorCode.RESTRICTED, "this connection may only receive")
        text = params.get("invoice")
        if not isinstance(text, str):
            raise BankError(ErrorCode.OTHER, "pay_invoice needs an invoice")
        invoice, moved = await self._bank.pay(connection, text)
        if moved:
            self._spawn(self._notify(invoice))
        return {"preimage": invoice.preimage, "fees_paid": 0}

    def _transaction(self, invoice: BankInvoice, account: str) -> dict[str, Any]:
        incoming = invoice.account == account
        settled = invoice.settled_at is not None
        expired = not settled and self._clock.wall() >= invoice.expires_at
        made: dict[str, Any] = {
            "type": "incoming" if incoming else "outgoing",
            "state": "settled" if settled else "expired" if expired else "pending",
            "invoice": invoice.invoice,
            "description": invoice.description,
            "payment_hash": invoice.payment_hash,
            "amount": int(invoice.amount),
            "fees_paid": 0,
            "created_at": invoice.created_at,
            "expires_at": invoice.expires_at,
        }
        if settled:
            # Before that nobody but the bank may know it: it is what a payer gets for paying.
            made |= {"settled_at": invoice.settled_at, "preimage": invoice.preimage}
        return made

    async def _notify(self, invoice: BankInvoice) -> None:
        for kind, account in (("payment_received", invoice.account), ("payment_sent", invoice.payer or "")):
            body = self._transaction(invoice, account)
            for client in await self._bank.clients(account):
                cipher = self._cipher(client)
                # NIP-47: a service that knows both encryptions publishes both notices.
                for scheme in Scheme:
                    await self._publish(self._key.sign(nip47.notification_draft(cipher, scheme, kind, body)))

    async def _publish(self, event: Event) -> None:
        try:
            await self._transport.publish(event)
        except PylonError as error:
            # The client looks it up.
            logger.warning("playbank could not publish", error=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cipher(self, client: str) -> Cipher:
        cipher = self._ciphers.get(client)
        if cipher is None:
            cipher = self._ciphers[client] = Cipher(self._key, client)
            if len(self._ciphers) > CIPHERS:
                self._ciphers.popitem(last=False)
        return cipher


class _Rate:
    """At most so many in any second."""

    def __init__(self, per_second: int) -> None:
        self._taken: deque[float] = deque(maxlen=per_second)

    def take(self, now: float) -> bool:
        full = len(self._taken) == self._taken.maxlen
        if full and now - self._taken[0] < 1.0:
            return False
        self._taken.append(now)
        return True
