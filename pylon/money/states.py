"""The states of payments, invoices and holds, and which step may follow which: written once, for all who write them.

    payment   reserved ─► sending ─► settled | failed | unknown
              reserved ─► failed
              unknown  ─► settled | failed
    invoice   pending  ─► settled | expired
              expired  ─► settled
    hold      held     ─► charged | released

States in, decisions out. What a customer ordered has no state: it is written, and deleted.
"""

from enum import StrEnum

from pylon.errors import MoneyError


class PaymentState(StrEnum):
    """A payment of ours."""

    RESERVED = "reserved"  # it counts against the limits, and nothing was sent
    SENDING = "sending"  # the wallet may have been asked
    SETTLED = "settled"
    FAILED = "failed"
    UNKNOWN = "unknown"  # no answer tells: a lookup or its owner decides


class InvoiceState(StrEnum):
    """An invoice of ours."""

    PENDING = "pending"
    SETTLED = "settled"
    EXPIRED = "expired"  # given up, and credited all the same when it is paid late


class HoldState(StrEnum):
    """What is held of a customer's account for one job."""

    HELD = "held"
    RELEASED = "released"
    CHARGED = "charged"  # in no row: the receipt takes the place of the hold


type State = PaymentState | InvoiceState | HoldState

_STEPS: dict[State, tuple[State, ...]] = {
    PaymentState.RESERVED: (PaymentState.SENDING, PaymentState.FAILED),
    PaymentState.SENDING: (PaymentState.SETTLED, PaymentState.FAILED, PaymentState.UNKNOWN),
    PaymentState.UNKNOWN: (PaymentState.SETTLED, PaymentState.FAILED),
    InvoiceState.PENDING: (InvoiceState.SETTLED, InvoiceState.EXPIRED),
    InvoiceState.EXPIRED: (InvoiceState.SETTLED,),
    HoldState.HELD: (HoldState.CHARGED, HoldState.RELEASED),
}


class IllegalStepError(MoneyError):
    """A step that must not be: nothing was written."""


def may_follow(after: State, before: State) -> bool:
    """Whether what is in the state `before` may be moved to `after`. What has ended never moves."""
    # By identity: "settled" is a word of two of them.
    return any(after is step for step in _STEPS.get(before, ()))


def check_step(what: str, before: State, after: State) -> None:
    """Raises `IllegalStepError`, which calls it `what`, unless `after` may follow."""
    if not may_follow(after, before):
        raise IllegalStepError(f"{what} that is {before.value} cannot become {after.value}")
