"""The calls about payments of unknown outcome: which there are, and what their owner decides of them."""

from typing import Any

from pylon.errors import UsageError
from pylon.money.msat import ZERO, Msat
from pylon.money.network import Network
from pylon.money.payment import ARRIVAL_GRACE_S, Payment
from pylon.money.payments import store as payment_store
from pylon.money.payments.decision import Decision
from pylon.money.payments.sender import Sender
from pylon.money.states import PaymentState
from pylon.node.calls.params import flag, text, whole
from pylon.nostr.bech32 import nip19
from pylon.nostr.event import is_hex64
from pylon.store.database import Database

# Seconds for asking the wallet. After that, the list is returned as it is.
LOOK_S = 20.0
_VERDICTS = {"paid": True, "not_paid": False}


async def payments(sender: Sender, database: Database, network: Network, params: dict[str, Any]) -> dict[str, Any]:
    """The `wallet-undecided` call: payments of unknown outcome, and those still being sent. With `look` the wallet is
    asked about them first."""
    if flag(params, "look"):
        await sender.look(within_s=LOOK_S)
    states = (PaymentState.SENDING, PaymentState.UNKNOWN)
    found = [_row(payment) for payment in await payment_store.in_state(database, *states)]
    return {"network": network.value, "unit": network.unit, "payments": found}


async def decide(sender: Sender, network: Network, params: dict[str, Any]) -> dict[str, Any]:
    """The `wallet-decide` call: records the owner's `verdict` on a `payment`, named by its payment hash.

    It is `paid`, with the `fee_msat` and, if known, the `preimage`; or `not_paid`. Raises `UsageError`,
    `DecisionRefusedError`, and `MoneyError` if there is no such payment.
    """
    payment_hash, verdict = text(params, "payment", ""), text(params, "verdict", "")
    if not is_hex64(payment_hash):
        raise UsageError("payment must be a payment hash: 64 hex digits", hint="`pylon wallet decide` lists them.")
    if verdict not in _VERDICTS:
        raise UsageError(f"verdict must be one of {', '.join(_VERDICTS)}")
    decision = Decision(_VERDICTS[verdict], text(params, "preimage", ""), Msat(whole(params, "fee_msat", int(ZERO))))
    done = await sender.decide(payment_hash, decision)
    payment = done.payment
    return {
        "network": network.value,
        "unit": network.unit,
        "payment": payment.payment_hash,
        "state": payment.state.value,
        "decided_by": "owner" if payment.decided else "wallet",
        "proof": bool(payment.preimage),
        "changed": done.changed,
        "amount_msat": int(payment.amount),
        "fee_msat": None if payment.fee is None else int(payment.fee),
    }


def _row(payment: Payment) -> dict[str, Any]:
    return {
        "payment": payment.payment_hash,
        "state": payment.state.value,
        "reason": payment.reason,
        "provider": None if payment.by_hand else nip19.npub(payment.provider),
        "payee": payment.payee,
        "amount_msat": int(payment.amount),
        "most_fee_msat": int(payment.fee_limit),
        "invoice": payment.invoice,
        "sent_at": payment.reserved_at,
        "expires_at": payment.expires_at,
        "releasable_at": payment.expires_at + ARRIVAL_GRACE_S,
    }
