"""A customer's mirror of its account with one provider: does each receipt follow from the last.

Receipts come with results, and results come in any order: one that is ahead of its turn waits, for a minute at
most, while the missing ones are asked for. What cannot be explained ends the relation, with a code of its own; where
lost results may explain it (`gaps`), the provider is left alone for a while, and then the account goes on.

An account that is new to us, or starts a new epoch, is taken up where it stands when that costs us nothing: the
provider must hold at least what we left there.

Values in, decisions out. `mirror_store` keeps these values.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.accounts.usage import UsageFault
from pylon.money.msat import ZERO, Msat
from pylon.records import record

PATIENCE_S = 60.0
# A provider whose wallet is down goes on signing receipts without our payment. That is no fraud yet.
CREDIT_PATIENCE_S = 3_600.0
MAX_WAITING = 1_000
# One bitcoin: who says that we have more with it, or gives more back at once, is not believed, and what many say can
# still be added up.
MAX_FOUND = 100_000_000_000


class Fault(StrEnum):
    """Why a relation with a provider ends."""

    GAP = "receipt_gap_unexplained"
    WRONG_SUM = "receipt_wrong_sum"
    REPLAYED = "receipt_replayed_seq"
    NEW_EPOCH = "receipt_new_epoch"
    OVER_QUOTE = "receipt_over_quote"
    WRONG_PAID = "receipt_wrong_paid_total"
    NOT_CREDITED = "payment_not_credited"


type End = Fault | UsageFault


class Outcome(StrEnum):
    """What became of a receipt."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    PENDING = "pending"  # receipts before it are missing
    STALE = "stale"  # it belongs to an epoch that the provider has left, or to a gap that is closed
    REFUSED = "refused"  # it is at fault, or the relation had ended before


@record
class Claim:
    """A receipt, the job that it came with, and the most that this job may cost.

    `signed_at` is its event's `created_at`, or when it came if that was earlier; `at` is since when we have it
    and could have asked for what is missing before it. Unix seconds.
    """

    receipt: AccountReceipt
    job: str
    quote: Msat
    signed_at: float
    at: float


@record
class Paid:
    """Our payments to this provider: all that is settled, of it what was settled lately (when, amount), and what may
    be or may yet come. `recent` goes back as far as `looks_back_to` says: there may be thousands before."""

    settled: Msat = ZERO
    recent: tuple[tuple[float, Msat], ...] = ()
    maybe: Msat = ZERO

    def settled_by(self, at: float) -> Msat:
        """What we had paid by then."""
        return Msat(int(self.settled) - sum([int(amount) for when, amount in self.recent if when > at]))


@record
class Mirror:
    """Where we stand with one provider.

    `paid_base` is added to our settled payments to give what the provider should call paid: it is not zero when
    we took up an account that had a history.
    """

    epoch: str = ""
    past_epochs: frozenset[str] = frozenset()
    seq: int = 0
    charged_total: Msat = ZERO
    paid_seen: Msat = ZERO
    paid_base: int = 0
    # The last receipt lacks a payment that was settled more than a minute before it was signed.
    short: bool = False
    waiting: tuple[Claim, ...] = ()
    ended: End | None = None
    # Until when nothing goes there since receipts are missing (Unix seconds), or zero.
    suspended_until: float = 0.0
    # What was charged in gaps that were closed, and the last receipt of this epoch that was missing in one.
    lost: Msat = ZERO
    skipped_to: int = 0

    @property
    def seen(self) -> AccountSeen | None:
        """What our next request acknowledges."""
        return AccountSeen(self.epoch, self.seq, self.charged_total) if self.epoch else None


@record
class Step:
    """What follows from a receipt or from time: the mirror, the claims to book in order, credit found, and what
    receipts charged that never came."""

    mirror: Mirror
    outcome: Outcome
    booked: tuple[Claim, ...] = ()
    found: Msat = ZERO
    lost: Msat = ZERO


def looks_back_to(claims: Iterable[Claim]) -> float:
    """The earliest moment of which has to be known what was paid by then, to judge these claims."""
    return min([claim.signed_at for claim in claims], default=math.inf) - CREDIT_PATIENCE_S


def balance(mirror: Mirror, paid: Paid) -> int:
    """What is left with the provider by our books, in msat; below zero: what we owe."""
    return int(paid.settled) + mirror.paid_base - int(mirror.charged_total)


def observe(
    mirror: Mirror,
    claim: Claim,
    paid: Paid,
    *,
    known: tuple[AccountReceipt, str] | None = None,
    job_charged: int = 0,
) -> Step:
    """A receipt came.

    `known` is the receipt that was accepted before under this epoch and seq, with its job. `job_charged` is what
    accepted receipts have charged for this job already: all of them together stay within its quote.
    """
    if mirror.ended is not None:
        return Step(mirror, Outcome.REFUSED)
    receipt = claim.receipt
    if receipt.epoch in mirror.past_epochs:
        return Step(mirror, Outcome.STALE)
    if known is not None:
        if known == (receipt, claim.job):
            return Step(mirror, Outcome.DUPLICATE)
        return ends(mirror, Fault.REPLAYED)
    for other in mirror.waiting:
        if (other.receipt.epoch, other.receipt.seq) == (receipt.epoch, receipt.seq):
            if (other.receipt, other.job) == (receipt, claim.job):
                return Step(mirror, Outcome.DUPLICATE)
            return ends(mirror, Fault.REPLAYED)
    job_charged += sum([other.receipt.charge_msat for other in mirror.waiting if other.job == claim.job])
    if receipt.charge_msat > 0 and receipt.charge_msat + max(0, job_charged) > claim.quote:
        return ends(mirror, Fault.OVER_QUOTE)
    if receipt.charge_msat < -MAX_FOUND:
        return ends(mirror, Fault.WRONG_SUM)
    if receipt.epoch == mirror.epoch and receipt.seq <= mirror.skipped_to:
        # What it charged is in the books.
        return Step(mirror, Outcome.STALE)
    if receipt.epoch == mirror.epoch and receipt.seq <= mirror.seq:
        # It was never accepted, yet its place is taken: the account was taken up after it.
        return ends(mirror, Fault.REPLAYED)
    if len(mirror.waiting) >= MAX_WAITING:
        return ends(mirror, Fault.GAP)
    waiting: tuple[Claim, ...] = (claim,)
    if mirror.waiting:
        waiting = tuple(sorted((*mirror.waiting, claim), key=lambda c: (c.receipt.epoch, c.receipt.seq)))
    step = drain(mirror, waiting, paid)
    if step.outcome is Outcome.ACCEPTED and claim not in step.booked:
        return replace(step, outcome=Outcome.PENDING)
    return step


def drain(mirror: Mirror, waiting: tuple[Claim, ...], paid: Paid, *, take_up: bool = False) -> Step:
    """Books what follows of the claims that wait; the mirror's own are those from before. With `take_up` the first of
    them opens the account, whatever its number."""
    booked: list[Claim] = []
    found = ZERO
    while (claim := _next(mirror, waiting, take_up=take_up)) is not None:
        take_up = False
        opens = claim.receipt.epoch != mirror.epoch
        if opens:
            fault, after, more = _open(mirror, claim, paid)
            found = found + more if found else more
        else:
            fault, after = _follow(mirror, claim, paid)
        if fault is not None:
            # What was in order before it stays booked.
            return replace(ends(replace(mirror, waiting=waiting), fault), booked=tuple(booked), found=found)
        epoch = claim.receipt.epoch
        waiting = tuple(
            other for other in waiting if other is not claim and (not opens or other.receipt.epoch == epoch)
        )
        mirror = after
        booked.append(claim)
    if waiting != mirror.waiting:
        mirror = replace(mirror, waiting=waiting)
    if mirror.suspended_until and not waiting:
        # What was missing has come.
        mirror = replace(mirror, suspended_until=0.0)
    return Step(mirror, Outcome.ACCEPTED, tuple(booked), found)


def _next(mirror: Mirror, waiting: tuple[Claim, ...], *, take_up: bool) -> Claim | None:
    for claim in waiting:
        follows = claim.receipt.epoch == mirror.epoch and claim.receipt.seq == mirror.seq + 1
        opens = claim.receipt.epoch != mirror.epoch and claim.receipt.seq == 1
        if follows or opens or take_up:
            return claim
    return None


def _follow(mirror: Mirror, claim: Claim, paid: Paid) -> tuple[Fault | None, Mirror]:
    receipt = claim.receipt
    if int(receipt.charged_total) != int(mirror.charged_total) + receipt.charge_msat:
        return Fault.WRONG_SUM, mirror
    ceiling = int(paid.settled) + int(paid.maybe) + mirror.paid_base
    if not mirror.paid_seen <= receipt.paid_total <= ceiling:
        return Fault.WRONG_PAID, mirror
    # A receipt may be signed before our payment is in, so what counts is when it was signed.
    short = _lacks(mirror, claim, paid, PATIENCE_S)
    if short and _lacks(mirror, claim, paid, CREDIT_PATIENCE_S):
        return Fault.NOT_CREDITED, mirror
    # By its constructor, as below: a copy with changes takes many times as long, and there is one for each job.
    return None, Mirror(
        mirror.epoch,
        mirror.past_epochs,
        receipt.seq,
        receipt.charged_total,
        receipt.paid_total,
        mirror.paid_base,
        short,
        mirror.waiting,
        mirror.ended,
        mirror.suspended_until,
        mirror.lost,
        mirror.skipped_to,
    )


def _lacks(mirror: Mirror, claim: Claim, paid: Paid, seconds: float) -> bool:
    return claim.receipt.paid_total < int(paid.settled_by(claim.signed_at - seconds)) + mirror.paid_base


def _open(mirror: Mirror, claim: Claim, paid: Paid) -> tuple[Fault | None, Mirror, Msat]:
    receipt = claim.receipt
    opening = int(receipt.paid_total) - int(receipt.charged_total) + receipt.charge_msat
    ours = balance(mirror, paid)
    if int(receipt.charged_total) < receipt.charge_msat:
        return Fault.WRONG_SUM, mirror, ZERO
    if opening < int(mirror.paid_seen) - int(mirror.charged_total):
        return (Fault.NEW_EPOCH if mirror.epoch else Fault.WRONG_SUM), mirror, ZERO
    # A payment that is on its way into their books makes the opening too small; one whose outcome we do not
    # know yet may make it too large, and is no gift.
    lacking = max(0, ours - opening)
    above = max(0, opening - ours)
    if above - int(paid.maybe) > MAX_FOUND:
        return Fault.WRONG_PAID, mirror, ZERO
    found = Msat(max(0, above - int(paid.maybe)))
    after = Mirror(
        receipt.epoch,
        mirror.past_epochs | {mirror.epoch} if mirror.epoch else mirror.past_epochs,
        receipt.seq,
        receipt.charged_total,
        receipt.paid_total,
        int(receipt.paid_total) + lacking - (above - int(found)) - int(paid.settled),
        mirror.short,
        mirror.waiting,
        mirror.ended,
        mirror.suspended_until,
        mirror.lost,
    )
    short = _lacks(after, claim, paid, PATIENCE_S)
    if short and _lacks(after, claim, paid, CREDIT_PATIENCE_S):
        return Fault.NOT_CREDITED, mirror, ZERO
    return None, after if after.short is short else replace(after, short=short), found


def end(mirror: Mirror, why: End) -> Mirror:
    """The mirror of a relation that ends for a reason found elsewhere. The first reason stays."""
    return mirror if mirror.ended is not None else replace(mirror, ended=why)


def ends(mirror: Mirror, fault: Fault) -> Step:
    """The relation is over."""
    return Step(replace(mirror, ended=fault), Outcome.REFUSED)
