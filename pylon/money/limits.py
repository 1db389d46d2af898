"""Spend limits: how much may leave the wallet by payment, job, provider, hour, day, run, and in all.

A payment counts from the moment it is reserved, with its largest possible fee, and stops counting only when it is
known to have failed; so a payment of unknown outcome goes on counting. For a provider only what it has not worked off
yet counts, without fees, which it does not get: what it could run away with.

Pure functions: values in, decisions out. `payments.store.used` sums up what counts already, in the same transaction
that reserves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pylon.money.msat import ZERO, Msat

HOUR_S = 3_600.0
DAY_S = 86_400.0
MAX_IN_FLIGHT = 20
# What is dated further ahead than this was written by a clock that was wrong. It counts in no window, since it would
# until that date comes. What a smaller jump leaves ahead counts in each.
AHEAD_S = DAY_S
# A payee can hold a payment for days. After so many seconds it takes no other one's place; its money still counts.
HELD_S = 600.0


class Limit(StrEnum):
    """The limit that a payment would exceed."""

    PAYMENT = "limit_payment"
    FEE = "limit_fee"
    JOB = "limit_job"
    PROVIDER = "limit_provider"
    HOUR = "limit_hour"
    DAY = "limit_day"
    RUN = "limit_run"
    ALL = "limit_all"
    IN_FLIGHT = "limit_in_flight"


@dataclass(frozen=True, slots=True)
class Caps:
    """The limits, in msat. `in_flight` is a number of payments, of which half may go to providers that have done no
    work for us: keys cost nothing, and each could hold a payment.

    Fees are included in all but `payment` and `provider`, which is what a provider may hold of ours. `hour` and `day`
    are the last 3,600 and 86,400 s. The caps for live money are in `payments.agreed`.
    """

    payment: Msat
    fee: Msat
    job: Msat
    provider: Msat
    hour: Msat
    day: Msat
    run: Msat
    all: Msat
    in_flight: int = MAX_IN_FLIGHT


_sats = Msat.from_sats

PLAY_CAPS = Caps(
    payment=_sats(1_000),
    fee=_sats(10),
    job=_sats(1_010),
    provider=_sats(5_000),
    hour=_sats(20_000),
    day=_sats(50_000),
    run=_sats(10_000),
    all=_sats(1_000_000),
)


@dataclass(frozen=True, slots=True)
class Spend:
    """A payment to be made: its amount, and the most that its fee may be.

    `run` is empty for a payment that belongs to no run. `by_hand` says that the owner named the invoice: nobody works
    such a payment off and no run ends, so the limits of provider and run do not count it.
    """

    amount: Msat
    fee_limit: Msat
    job: str
    provider: str
    run: str
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """What counts against the limits already, in msat, and how many payments are in flight.

    `newcomers` is how many of these go to providers that have done no work for us; None for a payment to any other.
    """

    job: Msat = ZERO
    provider: Msat = ZERO
    hour: Msat = ZERO
    day: Msat = ZERO
    run: Msat = ZERO
    all: Msat = ZERO
    in_flight: int = 0
    newcomers: int | None = None


def allow(caps: Caps, used: Used, spend: Spend) -> Limit | None:
    """The first limit that this payment would exceed, or None when it may be reserved."""
    if spend.amount > caps.payment:
        return Limit.PAYMENT
    if spend.fee_limit > caps.fee:
        return Limit.FEE
    if used.in_flight >= caps.in_flight or (used.newcomers or 0) >= max(1, caps.in_flight // 2):
        return Limit.IN_FLIGHT
    for limit, left in _left(caps, used, spend):
        if int(spend.amount) > left:
            return limit
    return None


def room(caps: Caps, used: Used, spend: Spend) -> Msat:
    """The largest amount that `allow` would allow for this payment, the number in flight aside."""
    left = min(left for _, left in _left(caps, used, spend))
    return Msat(max(0, min(int(caps.payment), left)))


def _left(caps: Caps, used: Used, spend: Spend) -> Iterator[tuple[Limit, int]]:
    """What each limit that applies to a payment leaves for its amount, in msat, with its largest fee set aside."""
    fee = int(spend.fee_limit)
    yield Limit.JOB, int(caps.job) - int(used.job) - fee
    if not spend.by_hand:
        # The provider does not get the fee.
        yield Limit.PROVIDER, int(caps.provider) - int(used.provider)
    yield Limit.HOUR, int(caps.hour) - int(used.hour) - fee
    yield Limit.DAY, int(caps.day) - int(used.day) - fee
    if spend.run and not spend.by_hand:
        yield Limit.RUN, int(caps.run) - int(used.run) - fee
    yield Limit.ALL, int(caps.all) - int(used.all) - fee
