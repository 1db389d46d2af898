"""The states of payments, invoices and holds, and the steps between them: the one place that all writers check.

    payment   reserved ─► sending ─► settled | failed | unknown
              reserved ─► failed
              unknown  ─► settled | failed
    invoice   pending  ─► settled | expired
              expired  ─► settled
    hold      held     ─► charged | released

Pure functions. A customer's orders have no state: they are written, and deleted.
"""

from enum import StrEnum

from pylon.errors import MoneyError


class PaymentState(StrEnum):
    """The state of a payment of ours."""

    RESERVED = "reserved"  # it counts against the limits, and nothing was sent
    SENDING = "sending"  # the wallet may have been asked
    SETTLED = "settled"
    FAILED = "failed"
    UNKNOWN = "unknown"  # no answer tells: a lookup or its owner decides


class InvoiceState(StrEnum):
    """The state of an invoice of ours."""

    PENDING = "pending"
    SETTLED = "settled"
    EXPIRED = "expired"  # given up, and credited all the same when it is paid late


class HoldState(StrEnum):
    """The state of what is held in a customer's account for one job."""

    HELD = "held"
    RELEASED = "released"
    CHARGED = "charged"  # never stored: the receipt takes the place of the hold


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
    """A step between states that is not allowed; nothing was written."""


def may_follow(after: State, before: State) -> bool:
    """Whether the state `before` may change to `after`. Final states never change."""
    # By identity: payments and invoices both have a state "settled".
    return any(after is step for step in _STEPS.get(before, ()))


def check_step(what: str, before: State, after: State) -> None:
    """Raises `IllegalStepError` unless `before` may change to `after`; `what` names the thing in the message."""
    if not may_follow(after, before):
        raise IllegalStepError(f"{what} that is {before.value} cannot become {after.value}")
