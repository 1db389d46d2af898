"""A wallet service on a relay that does whatever it is asked, in real invoices of the currency it was told."""

import asyncio
import hashlib
from contextlib import AsyncExitStack

from pylon.clock import SystemClock
from pylon.money.nwc import nip47
from pylon.money.nwc.nip47 import Cipher, Response
from pylon.money.nwc.uri import NwcUri
from pylon.money.playbank.methods import METHODS
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from tests.money.craft import honest

WALLET = SecretKey(b"\x21" * 32)
# A link has one user on a machine at a time, and tests run side by side.
CLIENT = SecretKey.generate()
PREIMAGE = b"\x2a" * 32


class WillingWallet:
    """`called` is what it calls its network, `currency` what its invoices are in, `asked` all that it was asked."""

    def __init__(self, url: str, called: str, currency: str) -> None:
        self.link = NwcUri(WALLET.public, (url,), CLIENT)
        self.called, self.currency = called, currency
        self.asked: list[str] = []
        self._url = url

    async def start(self, stack: AsyncExitStack) -> "WillingWallet":
        pool = RelayPool([self._url], secret=WALLET)
        pool.start()
        stack.push_async_callback(pool.close)
        await pool.publish(WALLET.sign(nip47.info_draft(list(METHODS), [])))
        task = asyncio.create_task(self._run(pool))
        stack.callback(task.cancel)
        return self

    def invoice(self, sats: int = 5) -> str:
        now = int(SystemClock().wall())
        hashed = hashlib.sha256(PREIMAGE).digest()
        return honest(sats, currency=self.currency, payment_hash=hashed, created_at=now)

    def respond(self, method: str) -> Response:
        """What it answers to one request."""
        return Response(method, self._answer(method))

    async def _run(self, pool: RelayPool) -> None:
        cipher = Cipher(WALLET, CLIENT.public)
        wanted = Filter(kinds=frozenset({nip47.REQUEST}), tags={"p": frozenset({WALLET.public})})
        async for received in pool.subscribe(lambda: (wanted,)):
            request = nip47.parse_request(received.event, cipher)
            self.asked.append(request.method)
            answer = self.respond(request.method)
            await pool.publish(WALLET.sign(nip47.response_draft(cipher, request.scheme, received.event.id, answer)))

    def _answer(self, method: str) -> dict[str, object]:
        match method:
            case "get_info":
                return {"network": self.called, "methods": list(METHODS)}
            case "get_balance":
                return {"balance": 1_000_000}
            case "make_invoice":
                return {"invoice": self.invoice()}
            case "pay_invoice":
                return {"preimage": PREIMAGE.hex(), "fees_paid": 0}
            case _:
                return {"state": "settled", "settled_at": 1, "preimage": PREIMAGE.hex()}
