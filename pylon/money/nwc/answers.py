"""Reads the answers of NIP-47 wallets, and believes them only as far as a wallet can know."""

from typing import Any

from pylon.money.msat import MAX_MSAT, Msat
from pylon.money.nwc.nip47 import ErrorCode
from pylon.money.wallet import Lookup, LookupState, WalletCode, proves
from pylon.nostr.event import is_hex64


def code(text: str) -> WalletCode:
    """The code for an error code of NIP-47; an unknown one is `other`.

    Codes of ours are unknown too: `wallet_unreachable` means that no request was sent, which no answer can say.
    """
    try:
        return WalletCode(ErrorCode(text.upper()).lower())
    except ValueError:
        return WalletCode.OTHER


def msat(value: object) -> Msat | None:
    """A value in an answer as an amount; None if it is none."""
    return Msat(value) if type(value) is int and 0 <= value <= MAX_MSAT else None


_STATES = {
    "pending": LookupState.PENDING,
    "accepted": LookupState.PENDING,
    "settled": LookupState.SETTLED,
    "expired": LookupState.EXPIRED,
    "failed": LookupState.FAILED,
}


def lookup(result: dict[str, Any], payment_hash: str) -> Lookup:
    """Reads a transaction object, most of whose fields are optional; some wallets leave out more."""
    preimage = result.get("preimage")
    preimage = preimage if is_hex64(preimage) else None
    settled_at = result.get("settled_at")
    state = _STATES.get(str(result.get("state") or "").lower())
    if state is None:
        # `state` was added late to NIP-47. The wallet that made an invoice always knows its preimage, so for invoices
        # only the time of settlement counts; for a payment of ours the preimage is the proof.
        outgoing = result.get("type") == "outgoing" and proves(preimage, payment_hash)
        paid = outgoing or (type(settled_at) is int and settled_at > 0)
        state = LookupState.SETTLED if paid else LookupState.UNSETTLED
    return Lookup(state, msat(result.get("amount")), msat(result.get("fees_paid")), preimage)
