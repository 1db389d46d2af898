"""Does each receipt of a provider follow from the last: what a customer makes of one that comes.

Receipts come with results, and results come in any order: one that is ahead of its turn waits, for a minute at
most, while the missing ones are asked for. What cannot be explained ends the relation, with a code of its own; where
lost results may explain it (`gaps`), the provider is left alone for a while, and then the account goes on.

An account that is new to us, or starts a new epoch, is taken up where it stands when that costs us nothing: the
provider must hold at least what we left there. Where our books were restored from a copy, what we left is not known
while a payment of the copy is open, and what comes waits for that too.

Values in, decisions out.
"""

from dataclasses import replace

from pylon.money.accounts.mirror import (
    CREDIT_PATIENCE_S,
    PATIENCE_S,
    Claim,
    End,
    Fault,
    Mirror,
    Outcome,
    Paid,
    Step,
    balance,
)
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.msat import ZERO, Msat

MAX_WAITING = 1_000
# One bitcoin: who says that we have more with it, or gives more back at once, is not believed, and what many say can
# still be added up.
MAX_FOUND = 100_000_000_000


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
    waiting: tuple[Claim, ...] = (claim,)
    if mirror.waiting:
        waiting = tuple(sorted((*mirror.waiting, claim), key=lambda c: (c.receipt.epoch, c.receipt.seq)))
    if len(waiting) > MAX_WAITING:
        if mirror.epoch:
            return ends(mirror, Fault.GAP)
        # The last ones say where an account stands that is to be taken up; their totals have the oldest.
        oldest = min(waiting, key=lambda c: (c.signed_at, c.receipt.seq))
        waiting = tuple(other for other in waiting if other is not oldest)
    if mirror.forgotten and paid.open:
        # Whether it is counted there already nobody can tell before it is known whether it was paid.
        return Step(replace(mirror, waiting=waiting), Outcome.PENDING)
    step = drain(mirror, waiting, paid)
    if step.outcome is Outcome.ACCEPTED and claim not in step.booked:
        return replace(step, outcome=Outcome.PENDING)
    return step


def drain(mirror: Mirror, waiting: tuple[Claim, ...], paid: Paid, *, take_up: Claim | None = None) -> Step:
    """Books what follows of the claims that wait; the mirror's own are those from before. `take_up` of them opens the
    account, whatever its number."""
    booked: list[Claim] = []
    found = ZERO
    while (claim := take_up or _next(mirror, waiting)) is not None:
        take_up = None
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


def _next(mirror: Mirror, waiting: tuple[Claim, ...]) -> Claim | None:
    for claim in waiting:
        follows = claim.receipt.epoch == mirror.epoch and claim.receipt.seq == mirror.seq + 1
        opens = claim.receipt.epoch != mirror.epoch and claim.receipt.seq == 1
        if follows or opens:
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
    # What the last receipt said was left there. Where that is not remembered it may all have been used since.
    least = int(mirror.paid_seen) - int(mirror.charged_total)
    if opening < (least if mirror.epoch else min(least, 0)):
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
