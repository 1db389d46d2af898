"""Why an invoice that a person gave was not paid, in words for that person."""

from pylon.errors import MoneyError
from pylon.money.limits import Limit
from pylon.money.payment import Code, PaymentRefusedError, Refusal

_WAIT = "`pylon wallet decide` shows it, and what to do if the wallet never says what became of it."
_LIMITS = "docs/money.md lists the limits; `pylon wallet go-live` chooses those of live money."
_REFUSED: dict[Code, tuple[str, str]] = {
    Refusal.STOPPED: ("the STOP file halts all spending", "Remove the file STOP in PYLON_HOME to go on."),
    Refusal.NOT_LIVE: ("live money is not allowed here", "`pylon wallet go-live` allows it."),
    Refusal.ABOVE_QUOTE: ("the invoice asks for more than --most", "Give --most what it asks for, if that is right."),
    Refusal.ABOVE_BID: ("the invoice asks for more than --most", "Give --most what it asks for, if that is right."),
    Refusal.HASH_SEEN: ("this invoice was tried or paid before", "Ask for a new one: none is paid twice."),
    Refusal.OWN_INVOICE: ("this invoice is this node's own", "Give it to whoever is to pay it."),
    Refusal.JOB_PAID: ("this invoice is paid", "Ask for a new one: none is paid twice."),
    Refusal.JOB_IN_FLIGHT: ("this invoice is being paid", _WAIT),
    Refusal.TOPUP_IN_FLIGHT: ("another payment to the same payee is under way", _WAIT),
    Refusal.FEES: ("the last payment to this payee cost more in fees than the limit", "Try again a day later."),
    Limit.PAYMENT: ("it is more than one payment may be", _LIMITS),
    Limit.FEE: ("its fee could be more than one payment may cost", _LIMITS),
    Limit.JOB: ("it is more than one payment may be", _LIMITS),
    Limit.PROVIDER: ("this payee would get more than one may", _LIMITS),
    Limit.HOUR: ("the limit of the last hour is reached", f"Try again later. {_LIMITS}"),
    Limit.DAY: ("the limit of the last day is reached", f"Try again later. {_LIMITS}"),
    Limit.RUN: ("the limit of one run is reached", _LIMITS),
    Limit.ALL: ("the limit of all spending is reached", _LIMITS),
    Limit.IN_FLIGHT: ("too many payments are under way", _WAIT),
}


def in_words(error: PaymentRefusedError) -> MoneyError:
    """The refusal as a sentence and what to do; its code stands behind, as docs/money.md lists it."""
    found = _REFUSED.get(error.code)
    if found is None:
        # What is wrong with an invoice says so by itself.
        return MoneyError(str(error), hint="docs/money.md says what each code means.")
    text, hint = found
    return MoneyError(f"nothing was paid: {text} ({error.code.value})", hint=hint)
