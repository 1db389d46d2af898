"""Why an invoice that a person gave was not paid, in words for that person. Pure."""

from pylon.errors import MoneyError
from pylon.money.limits import Limit
from pylon.money.payment import Code, PaymentRefusedError, Refusal

_DECIDE = "`pylon wallet decide` shows the payment, and what to do if the wallet never reports its outcome."
_LIMITS = "docs/money.md lists the limits; `pylon wallet go-live` sets those for live money."
_MOST = "If that amount is right, set --most to it."
_NEW = "Ask for a new invoice: none is paid twice."
# Text and hint by code. The general texts speak of jobs and providers, and this payment has neither; an empty text
# keeps the general one.
_REFUSED: dict[Code, tuple[str, str]] = {
    Refusal.STOPPED: ("", "To go on, remove the file STOP in PYLON_HOME."),
    Refusal.NOT_LIVE: ("", "`pylon wallet go-live` allows it."),
    Refusal.ABOVE_QUOTE: ("the invoice asks for more than --most", _MOST),
    Refusal.ABOVE_BID: ("the invoice asks for more than --most", _MOST),
    Refusal.HASH_SEEN: ("", _NEW),
    Refusal.OWN_INVOICE: ("", "This wallet made the invoice. Give it to the person who should pay it."),
    Refusal.JOB_PAID: ("this invoice is already paid", _NEW),
    Refusal.JOB_IN_FLIGHT: ("this invoice is being paid, or may still turn out to be paid", _DECIDE),
    Refusal.TOPUP_IN_FLIGHT: ("another payment to the same payee is in progress", _DECIDE),
    Refusal.FEES: (
        "the last payment to this payee cost more in fees than the limit allows",
        "Try again a day later.",
    ),
    Limit.PAYMENT: ("", _LIMITS),
    Limit.FEE: ("", _LIMITS),
    Limit.JOB: ("it is more than the limit for one payment", _LIMITS),
    Limit.PROVIDER: ("it is more than the limit for one payee", _LIMITS),
    Limit.HOUR: ("", f"Try again later. {_LIMITS}"),
    Limit.DAY: ("", f"Try again later. {_LIMITS}"),
    Limit.RUN: ("", _LIMITS),
    Limit.ALL: ("", _LIMITS),
    Limit.IN_FLIGHT: ("too many payments are in progress or of unknown outcome", _DECIDE),
}


def explained(error: PaymentRefusedError) -> MoneyError:
    """The refusal as a sentence with a hint. It ends with the code, which docs/money.md lists."""
    text, hint = _REFUSED.get(error.code, ("", "docs/money.md explains each code."))
    said, code = str(error), f"({error.code.value})"
    if text or not said.endswith(code):
        # The errors of an invalid invoice do not end with a code.
        said = f"nothing was paid: {text or said} {code}"
    return MoneyError(said, hint=hint)
