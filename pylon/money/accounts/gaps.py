"""What a gap in a provider's receipts may be: results that a relay lost, or charges for what nobody ordered.

The receipt after a gap says how many are missing and what they charged together. An honest provider signed them for
jobs that it was given and whose results were lost on the way; then the gap is no larger than what was ordered there
and never answered. Nobody can tell whether they were lost or never sent, so their sum may not pass that of what was
answered: to charge for what is not delivered brings less than to work does. What an account had charged before it
was taken up counts as answered: nobody here knows better.
"""

from collections.abc import Sequence
from dataclasses import replace

from pylon.money.accounts.following import drain, ends
from pylon.money.accounts.mirror import PATIENCE_S, Claim, Fault, Mirror, Outcome, Paid, Step
from pylon.money.msat import Msat
from pylon.records import record

# So long a provider is left alone whose receipts are missing: relays come back, and whoever holds results back to be
# paid for them is paid seldom.
SUSPENSION_S = 600.0


@record
class Gap:
    """Receipts that are missing, and what they charged together, in msat."""

    receipts: int
    msat: int


def may_be_lost(gap: Gap, quotes: Sequence[int], *, lost: int, answered: int) -> bool:
    """Whether results that were lost explain it.

    `quotes` are the most that each job may cost which was ordered there and has no receipt; gaps before this one
    charged `lost`, and receipts that came with answers `answered`, in msat.
    """
    if gap.msat < 0 or gap.receipts > len(quotes):
        return False
    most = sum(sorted(quotes, reverse=True)[: gap.receipts])
    return gap.msat <= most and lost + gap.msat <= answered


def is_due(mirror: Mirror, now: float) -> bool:
    """Whether `tick` has something to decide."""
    if mirror.ended is not None or not mirror.waiting:
        return False
    if mirror.suspended_until:
        # A clock that was set back does not make it longer.
        return not now < mirror.suspended_until <= now + SUSPENSION_S
    return now - min(claim.at for claim in mirror.waiting) >= PATIENCE_S


def tick(mirror: Mirror, paid: Paid, now: float, quotes: Sequence[int] = ()) -> Step:
    """Time passed while relays could be asked: what has waited too long is unexplained.

    `quotes` are the most that each job may cost which was ordered there lately and has no receipt.
    """
    if not is_due(mirror, now):
        return Step(mirror, Outcome.ACCEPTED if mirror.ended is None else Outcome.REFUSED)
    if not mirror.epoch:
        # We have no memory of this account: we, not the provider, lost a database.
        return _taken_up(mirror, paid)
    if not _may_be_lost(mirror, quotes):
        return ends(mirror, Fault.GAP)
    if not mirror.suspended_until:
        return Step(replace(mirror, suspended_until=now + SUSPENSION_S), Outcome.PENDING)
    return _without_the_missing(mirror, paid)


def _taken_up(mirror: Mirror, paid: Paid) -> Step:
    first = mirror.waiting[0].receipt
    step = drain(mirror, mirror.waiting, paid, take_up=True)
    if not step.mirror.epoch:
        return step
    # What came before it may come yet. The total that was taken up has it.
    return replace(step, mirror=replace(step.mirror, skipped_to=first.seq - 1))


def _may_be_lost(mirror: Mirror, quotes: Sequence[int]) -> bool:
    claims = mirror.waiting
    if any(claim.receipt.epoch != mirror.epoch for claim in claims):
        # How an account that opened anew began is not known.
        return False
    came = sum([claim.receipt.charge_msat for claim in claims])
    last = claims[-1].receipt
    gap = Gap(last.seq - mirror.seq - len(claims), int(last.charged_total) - int(mirror.charged_total) - came)
    answered = int(mirror.charged_total) - int(mirror.lost) + came
    return may_be_lost(gap, quotes, lost=int(mirror.lost), answered=answered)


def _without_the_missing(mirror: Mirror, paid: Paid) -> Step:
    """Books what waits as if what is missing had come before it."""
    before, booked = mirror.lost, tuple[Claim, ...]()
    while mirror.waiting:
        first = mirror.waiting[0].receipt
        at = int(first.charged_total) - first.charge_msat
        if at < mirror.charged_total:
            return replace(ends(mirror, Fault.WRONG_SUM), booked=booked, lost=Msat(mirror.lost - before))
        lost = Msat(mirror.lost + at - mirror.charged_total)
        mirror = replace(mirror, seq=first.seq - 1, charged_total=Msat(at), lost=lost, skipped_to=first.seq - 1)
        step = drain(mirror, mirror.waiting, paid)
        mirror, booked = step.mirror, (*booked, *step.booked)
        if step.outcome is Outcome.REFUSED:
            break
    outcome = Outcome.ACCEPTED if mirror.ended is None else Outcome.REFUSED
    return Step(mirror, outcome, booked, lost=Msat(mirror.lost - before))
