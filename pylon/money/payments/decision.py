"""Judges an owner's decision on a payment of unknown outcome (`pylon wallet decide`).

A wallet that looks up no payments and lists none in order leaves a payment whose answer was lost unknown for ever:
its money stays set aside, and its job and its provider get no other payment. The owner can look it up elsewhere and
decide.

Pure functions: values in, decisions out; `outcome` acts on them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pylon.errors import MoneyError
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import ARRIVAL_GRACE_S, Payment
from pylon.money.states import PaymentState
from pylon.money.wallet import proves


@dataclass(frozen=True, slots=True)
class Decision:
    """What the owner says became of a payment.

    `preimage` proves that it was paid; without one there is only the owner's word. `fee` is the routing fee in msat.
    """

    paid: bool
    preimage: str = ""
    fee: Msat = ZERO


class Undecidable(StrEnum):
    """Why a decision is refused."""

    NOT_UNKNOWN = "not_unknown"  # it has ended, or is under way
    PREIMAGE = "preimage_does_not_fit"
    FEE = "fee_above_amount"
    MAY_ARRIVE = "may_still_arrive"  # its invoice can still be paid


class DecisionRefusedError(MoneyError):
    """Nothing was changed. `code` says why."""

    def __init__(self, code: Undecidable, message: str, *, hint: str = "") -> None:
        super().__init__(f"nothing was decided: {message} ({code.value})", hint=hint)
        self.code = code


def judge(decision: Decision, payment: Payment, now: float) -> bool:
    """Whether a decision is to be written; False when the same was decided before. `now` is in Unix seconds.

    Deciding that a payment was not made frees its money for another one, and is refused while a delayed request to
    pay could still reach the wallet. Raises `DecisionRefusedError`.
    """
    state = payment.state
    if decision.preimage and not (decision.paid and proves(decision.preimage, payment.payment_hash)):
        raise DecisionRefusedError(
            Undecidable.PREIMAGE,
            "that is not the preimage of this payment",
            hint=("The wallet shows it with the payment, as 64 hex digits. Its SHA-256 is the payment hash."),
        )
    if state is not PaymentState.UNKNOWN:
        if payment.decided and state is (PaymentState.SETTLED if decision.paid else PaymentState.FAILED):
            return False
        raise DecisionRefusedError(Undecidable.NOT_UNKNOWN, f"this payment is {_told(payment)}", hint=_NEXT[state])
    if decision.fee > payment.amount:
        raise DecisionRefusedError(
            Undecidable.FEE, "its fee would be more than the payment", hint="--fee takes only the fee, in whole sats."
        )
    if not decision.paid and (until := payment.expires_at + ARRIVAL_GRACE_S) >= now:
        raise DecisionRefusedError(
            Undecidable.MAY_ARRIVE,
            "it may still be paid: a delayed request to pay can arrive until ten minutes after the invoice expires",
            hint=f"Try again after {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S} UTC.",
        )
    return True


def _told(payment: Payment) -> str:
    by = ", decided by its owner" if payment.decided else ""
    match payment.state:
        case PaymentState.SETTLED:
            return f"paid{by or ', which its preimage proves'}"
        case PaymentState.FAILED:
            return f"not paid{by or f' ({payment.reason})'}"
        case PaymentState.UNKNOWN:
            return "of unknown outcome"
        case PaymentState.RESERVED | PaymentState.SENDING:
            return "in progress"


_ENDED = "A payment that has ended cannot be changed. `pylon wallet audit` compares it with the wallet."
_NEXT = {
    PaymentState.SETTLED: _ENDED,
    PaymentState.FAILED: _ENDED,
    PaymentState.RESERVED: "Wait for the wallet's answer.",
    PaymentState.SENDING: "Wait for the wallet's answer.",
    PaymentState.UNKNOWN: "",
}
