"""Decides whether an invoice may be paid, and what a lookup says about a payment that was sent.

A customer pays when the event that asks for it is genuine and from the provider of the job; when it names this job
and this customer; when the invoice is well-formed, of this network and payable now; when its amount is the one stated
and within what was agreed; when its hash is new and its payee the known one; and when every limit has room. Each
refusal has a code of its own.

Pure functions: values in, decisions out. `payments.sender` gathers the values and acts.
"""

from dataclasses import dataclass
from enum import StrEnum

from pylon.errors import MoneyError
from pylon.money.invoices.invoice import Invoice, InvoiceCode, decode
from pylon.money.limits import Limit
from pylon.money.msat import Msat
from pylon.money.states import PaymentState
from pylon.money.wallet import Lookup, LookupState, WalletCode, proves

# A request to pay may reach the wallet this many seconds after its invoice expired.
ARRIVAL_GRACE_S = 600.0
# A wallet that does not tell "under way" from "failed" is believed this many seconds after the expiry.
UNSETTLED_GRACE_S = 3_600.0
NEVER_ARRIVED, NEVER_SETTLED = "never_arrived", "never_settled"
# The reason of a payment that was reserved and not sent.
NEVER_SENT = "never_sent"
# The reason of a payment whose outcome its owner decided.
DECIDED = "decided_by_owner"
# The reasons of payments that count as failed and may turn out paid after all: nothing was heard of them for long,
# the owner decided so, or, in older books, only the wallet's answer said so. Their jobs get no other payment.
PRESUMED_FAILED = (NEVER_ARRIVED, NEVER_SETTLED, DECIDED, WalletCode.PAYMENT_FAILED.value)
# The reason of a payment that failed by the wallet's own lookup: it can no longer arrive.
LOOKUP_FAILED = "lookup_failed"
# The reasons of payments that failed before the wallet heard of them.
UNSENT = (NEVER_SENT, WalletCode.UNREACHABLE.value, WalletCode.WRONG_NETWORK.value)

# A payment whose invoice the owner named has no provider: it is kept under this prefix and the payee's node key.
BY_HAND = "payee:"


class Refusal(StrEnum):
    """Why nothing is paid. What is wrong with the invoice itself has an `InvoiceCode`, a full limit a `Limit`."""

    STOPPED = "stopped"  # the STOP file is there
    NOT_LIVE = "not_live"  # mainnet, and nobody allowed live money
    UNVERIFIED = "event_unverified"  # its signature was not checked, or does not hold
    WRONG_AUTHOR = "wrong_author"  # not the provider that has this job
    WRONG_JOB = "wrong_job"
    WRONG_CUSTOMER = "wrong_customer"
    NO_INVOICE = "no_invoice"
    AMOUNT_DIFFERS = "amount_differs"  # the tag says another amount than the invoice, or none
    ABOVE_TOPUP = "above_topup"  # more than the deposit that we offered
    ABOVE_QUOTE = "above_quote"
    ABOVE_BID = "above_bid"
    HASH_SEEN = "hash_seen"  # this invoice was reserved, sent or paid before
    OWN_INVOICE = "own_invoice"  # we issued it ourselves
    JOB_PAID = "job_paid"  # another payment for this job is settled
    JOB_IN_FLIGHT = "job_in_flight"  # another payment for this job is under way, or may still turn out paid
    TOPUP_IN_FLIGHT = "topup_in_flight"  # the same, for another job at this provider
    PAYEE_CHANGED = "payee_changed"  # another node than this provider was paid at before; a person may trust it
    RELATION_ENDED = "relation_ended"  # a receipt was at fault
    RECEIPTS_PENDING = "receipts_pending"  # receipts are missing; a minute decides
    CREDIT_MISSING = "credit_missing"  # a payment of ours, more than a minute old, is not in the last receipt
    FEES = "fees_too_high"  # the last payment to this provider cost more than the fee limit


type Code = Refusal | InvoiceCode | Limit


class PaymentRefusedError(MoneyError):
    """A payment was not made; nothing was reserved. `code` says why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """What a `payment-required` feedback says: its author, its tags `e` (job), `p` (customer) and `amount`, its
    invoice.

    `verified` says that the id and signature of the event were checked and hold.
    """

    author: str
    job: str
    customer: str
    amount: Msat | None
    invoice: str | None
    verified: bool


@dataclass(frozen=True, slots=True)
class Order:
    """A job that we gave to a provider, or an invoice that the owner named (`by_hand`).

    `run` is empty for what belongs to no run. `topup` is the deposit that the request offered, None if none.
    """

    job: str
    provider: str
    customer: str
    quote: Msat
    bid: Msat
    run: str
    topup: Msat | None = None
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment of ours. `fee` is None until it is settled; times are Unix seconds."""

    payment_hash: str
    job: str
    provider: str
    run: str
    amount: Msat
    fee_limit: Msat
    fee: Msat | None
    invoice: str
    payee: str
    expires_at: float
    state: PaymentState
    preimage: str | None
    reason: str
    reserved_at: float

    @property
    def by_hand(self) -> bool:
        """Whether the owner named the invoice."""
        return self.provider.startswith(BY_HAND)

    @property
    def decided(self) -> bool:
        """Whether the owner decided its outcome, since no wallet told it."""
        return self.reason == DECIDED


@dataclass(frozen=True, slots=True)
class Known:
    """What our database knows that bears on a payment; `judge_known` has the refusals."""

    hash_seen: bool = False
    own_invoice: bool = False
    job_paid: bool = False
    # Another payment of this job is under way, or may still turn out paid.
    job_payment_open: bool = False
    provider_payment_open: bool = False
    pinned_payee: str | None = None
    relation_ended: bool = False
    receipts_pending: bool = False
    credit_missing: bool = False
    fees_too_high: bool = False


def judge_ask(ask: Ask, order: Order) -> Refusal | None:
    """Whether the feedback is genuine and about this job; the refusal, or None."""
    if not ask.verified:
        return Refusal.UNVERIFIED
    if ask.author != order.provider:
        return Refusal.WRONG_AUTHOR
    if ask.job != order.job:
        return Refusal.WRONG_JOB
    if ask.customer != order.customer:
        return Refusal.WRONG_CUSTOMER
    if not ask.invoice:
        return Refusal.NO_INVOICE
    return None


def judge_amount(amount: Msat, ask: Ask, order: Order) -> Refusal | None:
    """Whether the invoice's amount is the one stated, and within what was agreed; the refusal, or None.

    Invoices are in whole sats, so bounds are rounded up to the next sat; what is not used stays as credit.
    """
    if ask.amount != amount:
        return Refusal.AMOUNT_DIFFERS
    if order.topup is not None:
        return Refusal.ABOVE_TOPUP if amount > Msat.from_sats(order.topup.sats_up()) else None
    if amount > Msat.from_sats(order.quote.sats_up()):
        return Refusal.ABOVE_QUOTE
    if amount > Msat.from_sats(order.bid.sats_up()):
        return Refusal.ABOVE_BID
    return None


def judge_known(invoice: Invoice, order: Order, known: Known) -> Refusal | None:
    """Whether our own records allow the payment; the refusal, or None.

    An account has one open top-up at a time: a deposit waits for the one before it. An invoice for just one job, as
    in plain NIP-90, waits for no other job's.
    """
    if known.relation_ended:
        return Refusal.RELATION_ENDED
    if known.hash_seen:
        return Refusal.HASH_SEEN
    if known.own_invoice:
        return Refusal.OWN_INVOICE
    if known.job_paid:
        return Refusal.JOB_PAID
    if known.job_payment_open:
        return Refusal.JOB_IN_FLIGHT
    if known.provider_payment_open and order.topup is not None:
        return Refusal.TOPUP_IN_FLIGHT
    if known.receipts_pending:
        return Refusal.RECEIPTS_PENDING
    if known.credit_missing:
        return Refusal.CREDIT_MISSING
    if known.pinned_payee is not None and known.pinned_payee != invoice.payee:
        return Refusal.PAYEE_CHANGED
    if known.fees_too_high:
        return Refusal.FEES
    return None


def not_before(invoice: str, reserved_at: float) -> float:
    """The earliest time a wallet may list a payment under, in Unix seconds: some use the time of the invoice."""
    return min(reserved_at, float(decode(invoice).created_at))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of a payment after a lookup, and the reason for it."""

    state: PaymentState
    reason: str = ""


def resolve(lookup: Lookup, payment: Payment, now: float) -> Verdict:
    """The state of a payment that was sent, by a lookup at `now` (Unix seconds); the wallet's answer to the payment
    does not matter.

    A payment is settled only with proof, and failed only if the lookup says so. A wallet that does not know the
    payment proves nothing while the request may still be on its way, which ends some time after the invoice expired.
    That holds for one that had answered PAYMENT_FAILED too: NIP-47 lets it cover a time-out, after which the payment
    goes on.
    """
    match lookup.state:
        case LookupState.SETTLED if proves(lookup.preimage, payment.payment_hash):
            return Verdict(PaymentState.SETTLED)
        case LookupState.SETTLED:
            return Verdict(PaymentState.UNKNOWN, "settled_without_proof")
        case LookupState.FAILED:
            return Verdict(PaymentState.FAILED, LOOKUP_FAILED)
        case LookupState.NOT_FOUND | LookupState.EXPIRED if now > payment.expires_at + ARRIVAL_GRACE_S:
            return Verdict(PaymentState.FAILED, NEVER_ARRIVED)
        case LookupState.UNSETTLED if now > payment.expires_at + UNSETTLED_GRACE_S:
            return Verdict(PaymentState.FAILED, NEVER_SETTLED)
        case _:
            return Verdict(PaymentState.UNKNOWN, f"lookup_{lookup.state.value}")
