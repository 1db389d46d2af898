"""Where a customer stands with one provider: the mirror of its account there, and what a receipt makes of it.

Values; `following` decides, `gaps` what is missing, and `mirror_store` keeps them.
"""

import math
from collections.abc import Iterable
from enum import StrEnum

from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.accounts.usage import UsageFault
from pylon.money.msat import ZERO, Msat
from pylon.records import record

PATIENCE_S = 60.0
# A provider whose wallet is down goes on signing receipts without our payment. That is no fraud yet.
CREDIT_PATIENCE_S = 3_600.0


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
    be or may yet come, of that what is `open` still. `recent` goes back as far as `looks_back_to` says: there may be
    thousands before."""

    settled: Msat = ZERO
    recent: tuple[tuple[float, Msat], ...] = ()
    maybe: Msat = ZERO
    open: Msat = ZERO

    def settled_by(self, at: float) -> Msat:
        """What we had paid by then."""
        return Msat(int(self.settled) - sum([int(amount) for when, amount in self.recent if when > at]))


@record
class Mirror:
    """Where we stand with one provider.

    `paid_base` (msat) is added to our settled payments to give what the provider should call paid. It is not zero for
    an account with a history that was taken up, and where what we had paid is written off (`restored`).
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
    def forgotten(self) -> bool:
        """Whether our books were restored from a copy (`restored`) and the account is not taken up yet."""
        return not self.epoch and (self.charged_total > ZERO or self.paid_base != 0)

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
