"""Why nothing was paid, as a sentence for people; the code stands behind, as docs/money.md lists it."""

from pylon.money.limits import Limit
from pylon.money.payment import PaymentRefusedError, Refusal

_DECIDE = "`pylon wallet decide` shows it, and what to do if the wallet never says what became of it"
WHY: dict[Refusal | Limit, str] = {
    Refusal.STOPPED: "the STOP file halts all spending",
    Refusal.NOT_LIVE: "live money is not allowed here",
    Refusal.UNVERIFIED: "the signature of the event that asks for it was not checked, or does not hold",
    Refusal.WRONG_AUTHOR: "who asks for it is not the provider that has this job",
    Refusal.WRONG_JOB: "it is asked for another job",
    Refusal.WRONG_CUSTOMER: "it is asked of another customer",
    Refusal.NO_INVOICE: "payment is asked for without an invoice",
    Refusal.AMOUNT_DIFFERS: "the invoice is not for the amount that the provider states",
    Refusal.ABOVE_TOPUP: "the invoice asks for more than the deposit that was offered",
    Refusal.ABOVE_QUOTE: "the invoice asks for more than the job may cost by its provider's prices",
    Refusal.ABOVE_BID: "the invoice asks for more than was bid for the job",
    Refusal.HASH_SEEN: "this invoice was tried or paid before",
    Refusal.OWN_INVOICE: "this invoice is this node's own",
    Refusal.JOB_PAID: "this job is paid for already",
    Refusal.JOB_IN_FLIGHT: f"this job has a payment that may still turn out paid; {_DECIDE}",
    Refusal.TOPUP_IN_FLIGHT: f"another payment to the same provider is under way, or of unknown outcome; {_DECIDE}",
    Refusal.PAYEE_CHANGED: "it asks to be paid to another node than before",
    Refusal.RELATION_ENDED: "this provider's receipts were at fault",
    Refusal.RECEIPTS_PENDING: "receipts of this provider are missing, and asked for",
    Refusal.CREDIT_MISSING: "this provider's last receipt does not show a payment that was made",
    Refusal.FEES: "the last payment to it cost more in fees than the limit",
    Limit.PAYMENT: "it is more than one payment may be",
    Limit.FEE: "its fee could be more than one payment may cost",
    Limit.JOB: "with its fee it could be more than one job may cost",
    Limit.PROVIDER: "this provider would hold more of ours than one may",
    Limit.HOUR: "the limit of the last hour is reached",
    Limit.DAY: "the limit of the last day is reached",
    Limit.RUN: "the limit of one run is reached",
    Limit.ALL: "the limit of all spending is reached",
    Limit.IN_FLIGHT: f"too many payments are under way, or of unknown outcome; {_DECIDE}",
}


def refused(code: Refusal | Limit, why: str = "") -> PaymentRefusedError:
    """The refusal, to be raised; `why` where there is more to say than usual."""
    return PaymentRefusedError(code, f"nothing was paid: {why or WHY[code]} ({code.value})")
