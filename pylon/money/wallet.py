"""The protocol of a Lightning wallet. `nwc.NwcWallet` implements it; tests have other implementations.

Of a wallet's statements only `lookup` counts: events are hints to look something up, and the answer to `pay` may be
lost. Amounts are msat, hashes and preimages are 64 hex characters, times are Unix seconds.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pylon.errors import MoneyError
from pylon.money.msat import Msat
from pylon.nostr.event import is_hex64


class WalletCode(StrEnum):
    """What a wallet says went wrong: NIP-47's error codes in lower case, and four of our own."""

    RATE_LIMITED = "rate_limited"
    NOT_IMPLEMENTED = "not_implemented"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    QUOTA_EXCEEDED = "quota_exceeded"
    RESTRICTED = "restricted"
    UNAUTHORIZED = "unauthorized"
    INTERNAL = "internal"
    UNSUPPORTED_ENCRYPTION = "unsupported_encryption"
    PAYMENT_FAILED = "payment_failed"
    NOT_FOUND = "not_found"
    OTHER = "other"
    UNREACHABLE = "wallet_unreachable"
    TIMEOUT = "wallet_timeout"
    MALFORMED = "wallet_malformed_reply"
    WRONG_NETWORK = "wallet_wrong_network"


# Codes that say that the wallet refused before it did anything. `payment_failed`, `internal` and `other` are not
# among them: NIP-47 lets the first cover time-outs, after which a payment can still arrive.
REFUSED_OUTRIGHT = frozenset(
    {
        WalletCode.RATE_LIMITED,
        WalletCode.NOT_IMPLEMENTED,
        WalletCode.INSUFFICIENT_BALANCE,
        WalletCode.QUOTA_EXCEEDED,
        WalletCode.RESTRICTED,
        WalletCode.UNAUTHORIZED,
        WalletCode.UNSUPPORTED_ENCRYPTION,
        WalletCode.WRONG_NETWORK,
    }
)


class WalletError(MoneyError):
    """A wallet refused or failed, or did not answer. `code` says which."""

    def __init__(self, code: WalletCode, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class WalletInfo:
    """What a wallet says of itself; `network` is empty when it does not say."""

    network: str
    alias: str = ""
    methods: frozenset[str] = field(default_factory=frozenset)


class LookupState(StrEnum):
    """What a wallet knows of a payment hash."""

    PENDING = "pending"
    # Not settled, from a wallet that does not tell "under way" from "failed".
    UNSETTLED = "unsettled"
    SETTLED = "settled"
    EXPIRED = "expired"
    FAILED = "failed"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Lookup:
    """A wallet's answer about one payment hash. Fields that it leaves out are None."""

    state: LookupState
    amount: Msat | None = None
    fee: Msat | None = None
    preimage: str | None = None


class PayState(StrEnum):
    """How an attempt to pay ended, as far as is known."""

    SETTLED = "settled"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PayResult:
    """The answer to `pay`. `code` says why it is not settled; `preimage` is unchecked; a `fee` of None is unknown."""

    state: PayState
    preimage: str | None = None
    fee: Msat | None = None
    code: WalletCode | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """A notice that something happened to this payment hash: a reason to look it up."""

    payment_hash: str


class Wallet(Protocol):
    """A Lightning wallet. Every method may raise `WalletError` but `pay`."""

    async def info(self) -> WalletInfo:
        """Which network it is on, and what it can do."""

    async def balance(self) -> Msat:
        """What it holds."""

    async def create_invoice(self, amount: Msat, *, description: str, expiry_s: int) -> str:
        """Makes a BOLT-11 invoice. The caller checks that it says what was asked for."""

    async def lookup(self, payment_hash: str, *, since: float | None = None) -> Lookup:
        """Looks up an invoice of ours, or with `since` (Unix seconds) a payment of ours not older than that."""

    async def ready(self) -> None:
        """Learns what `pay` has to know, so that it sends its request at once. Once done, it takes no more time."""

    async def pay(self, invoice: str, *, fee_limit: Msat) -> PayResult:
        """Pays an invoice, asking once. Never raises: an outcome that is not certain is `unknown`."""

    def events(self) -> AsyncIterator[Hint]:
        """Yields hints, without end."""


def not_sent(error: WalletError) -> WalletCode:
    """The code of a payment that was not sent because of this error, whatever its code means elsewhere."""
    return error.code if error.code is WalletCode.WRONG_NETWORK else WalletCode.UNREACHABLE


def proves(preimage: str | None, payment_hash: str) -> bool:
    """Whether this preimage proves that the invoice with this payment hash was paid."""
    return is_hex64(preimage) and hashlib.sha256(bytes.fromhex(preimage or "")).hexdigest() == payment_hash
