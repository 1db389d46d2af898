"""The messages for refused payments; docs/money.md lists their codes."""

from pylon.money.limits import Limit
from pylon.money.payment import PaymentRefusedError, Refusal

_DECIDE = "`pylon wallet decide` shows the payment, and what to do if the wallet never reports its outcome"
WHY: dict[Refusal | Limit, str] = {
    Refusal.STOPPED: "the STOP file halts all spending",
    Refusal.NOT_LIVE: "live money is not allowed here",
    Refusal.UNVERIFIED: "the payment request's signature was not checked, or is invalid",
    Refusal.WRONG_AUTHOR: "the payment request is not from the provider of this job",
    Refusal.WRONG_JOB: "the payment request is for another job",
    Refusal.WRONG_CUSTOMER: "the payment request is for another customer",
    Refusal.NO_INVOICE: "the payment request has no invoice",
    Refusal.AMOUNT_DIFFERS: "the invoice's amount is not the amount that the provider states",
    Refusal.ABOVE_TOPUP: "the invoice asks for more than the offered deposit",
    Refusal.ABOVE_QUOTE: "the invoice asks for more than the job can cost at the provider's prices",
    Refusal.ABOVE_BID: "the invoice asks for more than the bid for the job",
    Refusal.HASH_SEEN: "this invoice was already tried or paid",
    Refusal.OWN_INVOICE: "this node made the invoice itself",
    Refusal.JOB_PAID: "this job is already paid",
    Refusal.JOB_IN_FLIGHT: f"this job has a payment that may still turn out to be paid; {_DECIDE}",
    Refusal.TOPUP_IN_FLIGHT: f"another payment to the same provider is in progress or of unknown outcome; {_DECIDE}",
    Refusal.PAYEE_CHANGED: "the provider asks to be paid at a different node than before",
    Refusal.RELATION_ENDED: "this provider's receipts were wrong",
    Refusal.RECEIPTS_PENDING: "receipts of this provider are missing, and were asked for",
    Refusal.CREDIT_MISSING: "this provider's last receipt does not show a payment that was made",
    Refusal.FEES: "the last payment to this provider cost more in fees than the limit allows",
    Limit.PAYMENT: "it is more than the limit for one payment",
    Limit.FEE: "its fee could be more than the limit for one payment's fee",
    Limit.JOB: "with its fee, it could be more than the limit for one job",
    Limit.PROVIDER: "this provider would hold more of our money than one provider may",
    Limit.HOUR: "the limit per hour is reached",
    Limit.DAY: "the limit per day is reached",
    Limit.RUN: "the limit per run is reached",
    Limit.ALL: "the limit on all spending is reached",
    Limit.IN_FLIGHT: f"too many payments are in progress or of unknown outcome; {_DECIDE}",
}


def refused(code: Refusal | Limit, why: str = "") -> PaymentRefusedError:
    """The error to raise for a refused payment; `why` replaces the usual message for its code."""
    return PaymentRefusedError(code, f"nothing was paid: {why or WHY[code]} ({code.value})")
