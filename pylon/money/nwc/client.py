"""A wallet over Nostr Wallet Connect: a client of NIP-47 that implements `wallet.Wallet`.

NIP-47 has no fee limit, and any answer can be lost. So a lost answer to a payment means `unknown`, never "failed";
notices are only hints; and `lookup` is what counts.
"""

from collections.abc import AsyncIterator
from typing import Any

from pylon.clock import Clock
from pylon.money.msat import Msat
from pylon.money.nwc import answers
from pylon.money.nwc.listing import Search
from pylon.money.nwc.requests import NwcRequests
from pylon.money.nwc.uri import NwcUri
from pylon.money.transport import Transport
from pylon.money.wallet import (
    REFUSED_OUTRIGHT,
    Hint,
    Lookup,
    LookupState,
    PayResult,
    PayState,
    WalletCode,
    WalletError,
    WalletInfo,
)
from pylon.nostr.event import is_hex64

READ_TIMEOUT_S = 10.0
# Routing may take a while; the invoice lasts ten minutes.
PAY_TIMEOUT_S = 60.0
# How many pages are searched for a payment that the wallet does not look up.
LIST_PAGES = 100


class NwcWallet:
    """A wallet at the other end of a connection string. `transport` is connected to the relays that it names.

    Every method but `start`, `close` and `pay` raises `WalletError`.
    """

    def __init__(
        self,
        uri: NwcUri,
        transport: Transport,
        clock: Clock,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        pay_timeout_s: float = PAY_TIMEOUT_S,
    ) -> None:
        self._wallet = uri.wallet
        self._read_timeout = read_timeout_s
        self._pay_timeout = pay_timeout_s
        self._requests = NwcRequests(uri, transport, clock, read_timeout_s=read_timeout_s)

    def __repr__(self) -> str:
        return f"NwcWallet(wallet={self._wallet!r})"

    async def start(self) -> None:
        """Begins to listen. The wallet itself need not be there yet."""
        await self._requests.start()

    async def close(self) -> None:
        """Stops listening; requests that wait end as timed out."""
        await self._requests.close()

    # --- what `wallet.Wallet` promises ------------------------------------------------------------------------

    async def info(self) -> WalletInfo:
        announced = await self._requests.ready()
        result = await self._requests.read("get_info", {})
        methods = result.get("methods")
        return WalletInfo(
            network=str(result.get("network") or "")[:40],
            alias=str(result.get("alias") or "")[:100],
            methods=frozenset(map(str, methods)) if isinstance(methods, list) else announced.methods,
        )

    async def balance(self) -> Msat:
        result = await self._requests.read("get_balance", {})
        balance = answers.msat(result.get("balance"))
        if balance is None:
            raise WalletError(WalletCode.MALFORMED, "the wallet's balance is not an amount")
        return balance

    async def create_invoice(self, amount: Msat, *, description: str, expiry_s: int) -> str:
        params = {"amount": int(amount), "description": description, "expiry": expiry_s}
        # Not read: a second request after a lost answer would leave a second invoice behind.
        invoice = (await self._requests.make("make_invoice", params)).get("invoice")
        if not isinstance(invoice, str):
            raise WalletError(WalletCode.MALFORMED, "the wallet made no invoice")
        return invoice

    async def lookup(self, payment_hash: str, *, since: float | None = None) -> Lookup:
        try:
            result = await self._requests.read("lookup_invoice", {"payment_hash": payment_hash})
        except WalletError as error:
            if error.code not in (WalletCode.NOT_FOUND, WalletCode.NOT_IMPLEMENTED):
                raise
            found = None
            # Some wallets look up invoices only, or nothing, and list payments elsewhere.
            if since is not None and "list_transactions" in (await self._requests.ready()).methods:
                found = await self._find_listed(payment_hash, since)
            elif error.code is WalletCode.NOT_IMPLEMENTED:
                raise
            if found is None:
                return Lookup(LookupState.NOT_FOUND)
            result = found
        if result.get("payment_hash", payment_hash) != payment_hash:
            raise WalletError(WalletCode.MALFORMED, "the wallet answered about another payment")
        return answers.lookup(result, payment_hash)

    async def ready(self) -> None:
        await self._requests.ready()

    async def pay(self, invoice: str, *, fee_limit: Msat) -> PayResult:  # noqa: ARG002 - NIP-47 has no such field
        try:
            response = await self._requests.call("pay_invoice", {"invoice": invoice}, self._pay_timeout)
        except WalletError as error:
            # `UNREACHABLE` here says that the request was never sent.
            certain = error.code in REFUSED_OUTRIGHT or error.code in (
                WalletCode.PAYMENT_FAILED,
                WalletCode.UNREACHABLE,
            )
            return PayResult(PayState.FAILED if certain else PayState.UNKNOWN, code=error.code)
        preimage = response.result.get("preimage")
        if not is_hex64(preimage):
            return PayResult(PayState.UNKNOWN, code=WalletCode.MALFORMED)
        return PayResult(PayState.SETTLED, preimage, answers.msat(response.result.get("fees_paid")))

    async def events(self) -> AsyncIterator[Hint]:
        while True:
            yield await self._requests.hint()

    async def _find_listed(self, payment_hash: str, since: float) -> dict[str, Any] | None:
        search = Search(payment_hash, since)
        for _ in range(LIST_PAGES):
            search.take((await self._requests.read("list_transactions", search.params)).get("transactions"))
            if search.is_over:
                return search.found
            if search.is_stuck:
                break
        # The payment may be among older ones that the wallet does not show.
        raise WalletError(WalletCode.MALFORMED, "the wallet does not list all that it paid")
