"""A customer's mirror of its account with one provider: the values that receipts are checked against.

`following` decides on receipts, `gaps` on missing ones, and `mirror_store` keeps the values in SQLite.
"""

import math
from collections.abc import Iterable
from enum import StrEnum

from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.accounts.usage import UsageFault
from pylon.money.msat import ZERO, Msat
from pylon.records import record

# How long, in seconds, a missing receipt is waited for, and a provider may not know of a payment of ours.
PATIENCE_S = 60.0
# A provider whose wallet is down signs receipts that lack our payment. Only after this many seconds is that a fault.
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
    """What was made of a receipt."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    PENDING = "pending"  # receipts before it are missing
    STALE = "stale"  # it belongs to an epoch that the provider has left, or to a gap that is closed
    REFUSED = "refused"  # it is at fault, or the relation had ended before


@record
class Claim:
    """A receipt that came, the job that it came with, and the most that this job may cost.

    `signed_at` is its event's `created_at`, or when it came if that was earlier. `at` is since when we have had it
    and could have asked relays for receipts before it. Both are Unix seconds.
    """

    receipt: AccountReceipt
    job: str
    quote: Msat
    signed_at: float
    at: float


@record
class Paid:
    """Our payments to one provider, in msat.

    `settled` is the sum of all that are settled; `recent` has the last of these by themselves (when, amount), back to
    what `looks_back_to` says, since there may be thousands before. `open` is the sum of those whose outcome is open,
    and `maybe` adds to that the ones that count as failed and may still turn out paid.
    """

    settled: Msat = ZERO
    recent: tuple[tuple[float, Msat], ...] = ()
    maybe: Msat = ZERO
    open: Msat = ZERO

    def settled_by(self, at: float) -> Msat:
        """What we had paid by `at` (Unix seconds)."""
        return Msat(int(self.settled) - sum([int(amount) for when, amount in self.recent if when > at]))


@record
class Mirror:
    """Our account with one provider, as the receipts that we accepted say.

    `epoch` is empty while no receipt was accepted: the account is new to us, or our books were restored
    (`forgotten`). `charged_total` and `paid_seen` are the totals of the last receipt.

    `paid_base` (msat) is added to our settled payments to give what the provider should call paid. It is not zero for
    an account with a history that was taken up, and where what we had paid is written off (`restored`).
    """

    epoch: str = ""
    past_epochs: frozenset[str] = frozenset()
    seq: int = 0
    charged_total: Msat = ZERO
    paid_seen: Msat = ZERO
    paid_base: int = 0
    # Whether the last receipt lacks a payment that was settled more than a minute before it was signed.
    short: bool = False
    waiting: tuple[Claim, ...] = ()
    ended: End | None = None
    # Until when the provider is asked for nothing because receipts are missing (Unix seconds), or zero.
    suspended_until: float = 0.0
    # What closed gaps charged, and the number of the last receipt of this epoch that was missing in one.
    lost: Msat = ZERO
    skipped_to: int = 0

    @property
    def forgotten(self) -> bool:
        """Whether our books were restored from a copy (`restored`) and no receipt was accepted since."""
        return not self.epoch and (self.charged_total > ZERO or self.paid_base != 0)

    @property
    def seen(self) -> AccountSeen | None:
        """The acknowledgement for our next request; None while no receipt was accepted."""
        return AccountSeen(self.epoch, self.seq, self.charged_total) if self.epoch else None


@record
class Step:
    """A decision on a receipt, or on the passage of time.

    `mirror` is the account afterwards, `booked` the claims to book, in order. `found` is credit that the provider has
    for us without a payment, and `lost` what missing receipts charged; both are msat.
    """

    mirror: Mirror
    outcome: Outcome
    booked: tuple[Claim, ...] = ()
    found: Msat = ZERO
    lost: Msat = ZERO


def looks_back_to(claims: Iterable[Claim]) -> float:
    """The earliest time (Unix seconds) at which the sum of our payments has to be known to judge these claims."""
    return min([claim.signed_at for claim in claims], default=math.inf) - CREDIT_PATIENCE_S


def balance(mirror: Mirror, paid: Paid) -> int:
    """What we have left with the provider by our books, in msat; negative if we owe it."""
    return int(paid.settled) + mirror.paid_base - int(mirror.charged_total)
