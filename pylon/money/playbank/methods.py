"""The NIP-47 methods of the playbank, on the account of the client's connection.

Parameters come from strangers and are checked here; wrong ones are answered with an error code of NIP-47.
"""

from collections.abc import Callable
from typing import Any

from pylon.clock import Clock
from pylon.money.invoices.invoice import DEFAULT_EXPIRY_S
from pylon.money.msat import MAX_MSAT, Msat
from pylon.money.network import Network
from pylon.money.nwc.nip47 import ErrorCode
from pylon.money.playbank.bank import BankError, BankInvoice, Connection, PlayBank
from pylon.nostr.event import is_hex64

RECEIVE_METHODS = ("get_info", "get_balance", "make_invoice", "lookup_invoice", "list_transactions")
METHODS = ("pay_invoice", *RECEIVE_METHODS)
NOTICES = ("payment_received", "payment_sent")
PAGE = 20


class BankMethods:
    """The methods of one bank. `public` is the key that its invoices are signed with; `moved` is called once for each
    payment that moved money."""

    def __init__(self, bank: PlayBank, public: str, clock: Clock, moved: Callable[[BankInvoice], None]) -> None:
        self._bank = bank
        self._public = public
        self._clock = clock
        self._moved = moved

    async def act(self, connection: Connection, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Carries out a request and returns its result. Raises `BankError`."""
        match method:
            case "pay_invoice":
                return await self._pay_invoice(connection, params)
            case "make_invoice":
                return await self._make_invoice(connection, params)
            case "lookup_invoice":
                return await self._lookup_invoice(connection, params)
            case "list_transactions":
                return await self._list_transactions(connection, params)
            case "get_balance":
                return {"balance": int(await self._bank.balance(connection.account))}
            case "get_info":
                return self._info(connection)
            case _:
                raise BankError(ErrorCode.NOT_IMPLEMENTED, "this bank does not know that method")

    def _info(self, connection: Connection) -> dict[str, Any]:
        return {
            "alias": "Pylon playbank",
            "color": "#888888",
            "pubkey": self._public,
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
        if params.get("description_hash"):
            # BOLT 11 has it in place of the description: an invoice without it is not what was asked for.
            raise BankError(ErrorCode.OTHER, "no invoices with a description_hash are made here: send a description")
        invoice = await self._bank.make_invoice(
            connection.account, Msat(amount), description=str(params.get("description") or ""), expiry_s=expiry
        )
        return self.transaction(invoice, connection.account)

    async def _lookup_invoice(self, connection: Connection, params: dict[str, Any]) -> dict[str, Any]:
        payment_hash, text = params.get("payment_hash"), params.get("invoice")
        invoice = await self._bank.find(
            connection.account,
            payment_hash=payment_hash if is_hex64(payment_hash) and isinstance(payment_hash, str) else "",
            text=text if isinstance(text, str) else "",
        )
        if invoice is None:
            raise BankError(ErrorCode.NOT_FOUND, "there is no such invoice or payment here")
        return self.transaction(invoice, connection.account)

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
        listed = [self.transaction(invoice, connection.account) for invoice in invoices]
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
            self._moved(invoice)
        return {"preimage": invoice.preimage, "fees_paid": 0}

    def transaction(self, invoice: BankInvoice, account: str) -> dict[str, Any]:
        """The NIP-47 transaction object of an invoice, as this account sees it."""
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
            # The preimage proves the payment, so nobody may see it before.
            made |= {"settled_at": invoice.settled_at, "preimage": invoice.preimage}
        return made
