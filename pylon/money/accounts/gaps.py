"""Decides on receipts that stay missing: results that a relay lost, or charges for what nobody ordered.

The receipt after a gap tells how many are missing and what they charged together. An honest provider signed them for
jobs that it was given and whose results were lost on the way; so the gap is no larger than what was ordered there and
has no receipt. Nobody can tell whether results were lost or never sent, so all gaps together may not charge more than
receipts that came with answers: charging for work that is not delivered then brings less than working. What counts as
answered is what our own books have receipts for, not the provider's total, which for an account that was taken up is
the provider's word alone.

Books that were restored from a copy lack what was ordered after the copy. For a while after a restore only that sum
is checked, and a provider is not left alone for orders that we do not remember.

Pure functions: values in, decisions out.
"""

from collections.abc import Sequence
from dataclasses import replace

from pylon.money.accounts.following import drain, ends
from pylon.money.accounts.mirror import PATIENCE_S, Claim, Fault, Mirror, Outcome, Paid, Step
from pylon.money.msat import MAX_MSAT, Msat
from pylon.records import record

# How long, in seconds, a provider whose receipts are missing is left alone. Relays may come back in that time, and a
# provider that holds results back gains only seldom.
SUSPENSION_S = 600.0


@record
class Gap:
    """Receipts that are missing, and what they charged together, in msat."""

    receipts: int
    msat: int


def may_be_lost(gap: Gap, quotes: Sequence[int] | None, *, lost: int, answered: int) -> bool:
    """Whether lost results may explain a gap.

    `quotes` are the most that each job may cost which was ordered there and has no receipt, or None where not all of
    them are known; gaps before this one charged `lost`, and receipts that came with answers `answered`, in msat.
    """
    if gap.msat < 0 or lost + gap.msat > answered:
        return False
    if quotes is None:
        return True
    most = sum(sorted(quotes, reverse=True)[: gap.receipts])
    return gap.receipts <= len(quotes) and gap.msat <= most


def is_due(mirror: Mirror, now: float) -> bool:
    """Whether `tick` has something to decide."""
    if mirror.ended is not None or not mirror.waiting:
        return False
    if mirror.suspended_until:
        # A clock that was set back does not make it longer.
        return not now < mirror.suspended_until <= now + SUSPENSION_S
    return now - min(claim.at for claim in mirror.waiting) >= PATIENCE_S


def tick(mirror: Mirror, paid: Paid, now: float, quotes: Sequence[int] | None = (), *, answered: int = 0) -> Step:
    """Decides on receipts that have waited too long for missing ones, while relays could be asked for those.

    `quotes` are the most that each job may cost which was ordered there lately and has no receipt, or None where not
    all of them are known. `answered` (msat) is what the accepted receipts of this provider charged, of every epoch.
    """
    if not is_due(mirror, now):
        return Step(mirror, Outcome.ACCEPTED if mirror.ended is None else Outcome.REFUSED)
    if not mirror.epoch:
        # We have no record of this account: we lost our database, not the provider its own.
        return _taken_up(mirror, paid)
    if not _may_be_lost(mirror, quotes, answered):
        return ends(mirror, Fault.GAP)
    if not mirror.suspended_until and quotes is not None:
        return Step(replace(mirror, suspended_until=now + SUSPENSION_S), Outcome.PENDING)
    return _without_the_missing(mirror, paid)


def _taken_up(mirror: Mirror, paid: Paid) -> Step:
    """Opens an account at the last receipts without a gap: their totals include what is missing before them."""
    if mirror.forgotten and paid.open:
        return Step(mirror, Outcome.ACCEPTED)
    first = _last_in_a_row(mirror.waiting)
    receipt = first.receipt
    # Earlier ones came with answers too, and are paid from what we had left there.
    earlier = [
        claim
        for claim in mirror.waiting
        if claim.receipt.epoch == receipt.epoch and claim.receipt.seq < receipt.seq and claim.receipt.charge_msat >= 0
    ]
    spent = sum([claim.receipt.charge_msat for claim in earlier])
    step = drain(replace(mirror, paid_base=mirror.paid_base - spent), mirror.waiting, paid, take_up=first)
    if not step.mirror.epoch:
        return replace(step, mirror=replace(step.mirror, paid_base=mirror.paid_base))
    waiting = tuple(claim for claim in step.mirror.waiting if claim.receipt.seq > receipt.seq)
    # Missing ones from before may still come: they are counted.
    after = replace(step.mirror, waiting=waiting, skipped_to=receipt.seq - 1)
    return replace(step, mirror=after, booked=(*earlier, *step.booked))


def _last_in_a_row(waiting: Sequence[Claim]) -> Claim:
    """The first claim of the last run of consecutive numbers, in the epoch that was signed last."""
    epoch = max(waiting, key=lambda claim: claim.signed_at).receipt.epoch
    *earlier, first = [claim for claim in waiting if claim.receipt.epoch == epoch]
    for claim in reversed(earlier):
        if claim.receipt.seq != first.receipt.seq - 1:
            break
        first = claim
    return first


def _may_be_lost(mirror: Mirror, quotes: Sequence[int] | None, answered: int) -> bool:
    claims = mirror.waiting
    if any(claim.receipt.epoch != mirror.epoch for claim in claims):
        # How many receipts of a new epoch are missing, and what they charged, cannot be told.
        return False
    came = sum([claim.receipt.charge_msat for claim in claims])
    last = claims[-1].receipt
    gap = Gap(last.seq - mirror.seq - len(claims), int(last.charged_total) - int(mirror.charged_total) - came)
    return may_be_lost(gap, quotes, lost=int(mirror.lost), answered=answered + came)


def _without_the_missing(mirror: Mirror, paid: Paid) -> Step:
    """Accepts the waiting receipts, with what the missing ones charged booked as lost."""
    before, booked = mirror.lost, tuple[Claim, ...]()
    while mirror.waiting:
        first = mirror.waiting[0].receipt
        at = int(first.charged_total) - first.charge_msat
        if not mirror.charged_total <= at <= MAX_MSAT:
            return replace(ends(mirror, Fault.WRONG_SUM), booked=booked, lost=Msat(mirror.lost - before))
        lost = Msat(mirror.lost + at - mirror.charged_total)
        mirror = replace(mirror, seq=first.seq - 1, charged_total=Msat(at), lost=lost, skipped_to=first.seq - 1)
        step = drain(mirror, mirror.waiting, paid)
        mirror, booked = step.mirror, (*booked, *step.booked)
        if step.outcome is Outcome.REFUSED:
            break
    outcome = Outcome.ACCEPTED if mirror.ended is None else Outcome.REFUSED
    return Step(mirror, outcome, booked, lost=Msat(mirror.lost - before))
