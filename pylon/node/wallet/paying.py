"""Why an invoice that a person gave was not paid, in words for that person."""

from pylon.errors import MoneyError
from pylon.money.limits import Limit
from pylon.money.payment import Code, PaymentRefusedError, Refusal

_DECIDE = "`pylon wallet decide` shows the payment, and what to do if the wallet never reports its outcome."
_LIMITS = "docs/money.md lists the limits; `pylon wallet go-live` sets those for live money."
_MOST = "If that amount is right, set --most to it."
_NEW = "Ask for a new invoice: none is paid twice."
# What is refused for a provider's sake is no job's here. Where there is no text, it is said as to all.
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


def in_words(error: PaymentRefusedError) -> MoneyError:
    """The refusal as a sentence and what to do; its code stands behind, as docs/money.md lists it."""
    text, hint = _REFUSED.get(error.code, ("", "docs/money.md explains each code."))
    said, code = str(error), f"({error.code.value})"
    if text or not said.endswith(code):
        # What is wrong with an invoice is said without its code.
        said = f"nothing was paid: {text or said} {code}"
    return MoneyError(said, hint=hint)
