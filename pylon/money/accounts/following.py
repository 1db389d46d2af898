"""Checks each receipt of a provider against the one before it.

Receipts come with results, and results come in any order: a receipt that is early waits, for a minute at most, while
the missing ones are asked for. A receipt at fault ends the relation with the provider, with a code of its own. Where
lost results may explain missing receipts (`gaps`), the provider is left alone for a while, and then the account goes
on.

An account that is new to us, or that starts a new epoch, is accepted as it stands if that costs us nothing: the
provider must hold at least what we left there. Where our books were restored from a copy, what we left is not known
while a payment of the copy is open, so receipts wait for its outcome too.

Pure functions: values in, decisions out.
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

# The most receipts of one provider that wait for missing ones.
MAX_WAITING = 1_000
# One bitcoin, in msat. A provider that claims to hold more of ours, or gives more back at once, is not believed; so
# sums over many providers stay within 64 bits.
MAX_FOUND = 100_000_000_000


def observe(
    mirror: Mirror,
    claim: Claim,
    paid: Paid,
    *,
    known: tuple[AccountReceipt, str] | None = None,
    job_charged: int = 0,
) -> Step:
    """Decides on a receipt that came.

    `known` is the receipt that was accepted before under this epoch and seq, with its job. `job_charged` (msat) is
    what accepted receipts have charged for this job already: all of them together stay within its quote.
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
        # It was missing in a gap that was closed: its charge is booked.
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
        # An account is taken up at its last receipts, and their totals include the oldest.
        oldest = min(waiting, key=lambda c: (c.signed_at, c.receipt.seq))
        waiting = tuple(other for other in waiting if other is not oldest)
    if mirror.forgotten and paid.open:
        # The receipt may or may not count the open payment: that is known once its outcome is.
        return Step(replace(mirror, waiting=waiting), Outcome.PENDING)
    step = drain(mirror, waiting, paid)
    if step.outcome is Outcome.ACCEPTED and claim not in step.booked:
        return replace(step, outcome=Outcome.PENDING)
    return step


def drain(mirror: Mirror, waiting: tuple[Claim, ...], paid: Paid, *, take_up: Claim | None = None) -> Step:
    """Accepts, of the claims that wait, those that follow from each other.

    `waiting` replaces the claims in the mirror. `take_up`, one of them, opens the account whatever its number.
    """
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
            # The receipts accepted before it stay booked.
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
        # The missing receipts have come.
        mirror = replace(mirror, suspended_until=0.0)
    return Step(mirror, Outcome.ACCEPTED, tuple(booked), found)


def _next(mirror: Mirror, waiting: tuple[Claim, ...]) -> Claim | None:
    """The waiting claim that follows from the last receipt, or opens a new epoch."""
    for claim in waiting:
        follows = claim.receipt.epoch == mirror.epoch and claim.receipt.seq == mirror.seq + 1
        opens = claim.receipt.epoch != mirror.epoch and claim.receipt.seq == 1
        if follows or opens:
            return claim
    return None


def _follow(mirror: Mirror, claim: Claim, paid: Paid) -> tuple[Fault | None, Mirror]:
    """Checks the next receipt of an epoch; the fault, or the mirror afterwards."""
    receipt = claim.receipt
    if int(receipt.charged_total) != int(mirror.charged_total) + receipt.charge_msat:
        return Fault.WRONG_SUM, mirror
    ceiling = int(paid.settled) + int(paid.maybe) + mirror.paid_base
    if not mirror.paid_seen <= receipt.paid_total <= ceiling:
        return Fault.WRONG_PAID, mirror
    # A payment made after the receipt was signed cannot be in it.
    short = _lacks(mirror, claim, paid, PATIENCE_S)
    if short and _lacks(mirror, claim, paid, CREDIT_PATIENCE_S):
        return Fault.NOT_CREDITED, mirror
    # By the constructor, as below: `replace` takes many times as long, and this runs for each job.
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
    """Whether the receipt lacks a payment that was settled more than `seconds` before it was signed."""
    return claim.receipt.paid_total < int(paid.settled_by(claim.signed_at - seconds)) + mirror.paid_base


def _open(mirror: Mirror, claim: Claim, paid: Paid) -> tuple[Fault | None, Mirror, Msat]:
    """Checks a receipt that opens an account or epoch; the fault, or the mirror afterwards and the credit found."""
    receipt = claim.receipt
    opening = int(receipt.paid_total) - int(receipt.charged_total) + receipt.charge_msat
    ours = balance(mirror, paid)
    if int(receipt.charged_total) < receipt.charge_msat:
        return Fault.WRONG_SUM, mirror, ZERO
    # At least what the last receipt left there. After a restore all of that may have been used.
    least = int(mirror.paid_seen) - int(mirror.charged_total)
    if opening < (least if mirror.epoch else min(least, 0)):
        return (Fault.NEW_EPOCH if mirror.epoch else Fault.WRONG_SUM), mirror, ZERO
    # A payment that the provider has not booked yet makes the opening too small. One whose outcome we do not know may
    # make it too large, and is no gift.
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
    """The mirror once the relation has ended for a reason found elsewhere. An earlier reason stays."""
    return mirror if mirror.ended is not None else replace(mirror, ended=why)


def ends(mirror: Mirror, fault: Fault) -> Step:
    """The step that ends the relation with this provider."""
    return Step(replace(mirror, ended=fault), Outcome.REFUSED)
