"""Spend limits: how much may leave the wallet, by payment, job, provider, hour, day, run and in all.

A payment counts from the moment it is reserved, with the most that its fee may be; it stops counting only when
it is known to have failed. A payment of unknown outcome therefore goes on counting. With a provider only that
counts which it has not worked off yet: what it could run away with.

Values in, decisions out. `payments.store.used` sums up what counts already, in the same transaction that reserves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pylon.money.msat import ZERO, Msat

HOUR_S = 3_600.0
DAY_S = 86_400.0
MAX_IN_FLIGHT = 20


class Limit(StrEnum):
    """Which limit a payment would pass."""

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
    """The most of each, in msat, fees included but for `payment` and what is left with a `provider`. Those of live
    money are `agreed`.

    Hour and day are the last 3,600 and 86,400 s.
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
    """A payment that is wanted: amount, and the most its fee may be. `run` is empty for one of no run. `by_hand`: its
    owner named the invoice; nobody works it off and no run ends, so neither of these limits counts it."""

    amount: Msat
    fee_limit: Msat
    job: str
    provider: str
    run: str
    by_hand: bool = False

    @property
    def total(self) -> Msat:
        """What is reserved for it."""
        return self.amount + self.fee_limit


@dataclass(frozen=True, slots=True)
class Used:
    """What counts already, in msat, and how many payments are in flight."""

    job: Msat = ZERO
    provider: Msat = ZERO
    hour: Msat = ZERO
    day: Msat = ZERO
    run: Msat = ZERO
    all: Msat = ZERO
    in_flight: int = 0


def allow(caps: Caps, used: Used, spend: Spend) -> Limit | None:
    """The first limit that this payment would pass, or None when it may be reserved."""
    if spend.amount > caps.payment:
        return Limit.PAYMENT
    if spend.fee_limit > caps.fee:
        return Limit.FEE
    if used.in_flight >= caps.in_flight:
        return Limit.IN_FLIGHT
    for limit, left in _left(caps, used, spend):
        if int(spend.total) > left:
            return limit
    return None


def room(caps: Caps, used: Used, spend: Spend) -> Msat:
    """The largest amount that `allow` lets through beside what is in flight, all else being as in this payment."""
    left = min(left for _, left in _left(caps, used, spend))
    return Msat(max(0, min(int(caps.payment), left - int(spend.fee_limit))))


def _left(caps: Caps, used: Used, spend: Spend) -> Iterator[tuple[Limit, int]]:
    """What each limit that counts a payment leaves for it and its fee."""
    yield Limit.JOB, int(caps.job) - int(used.job)
    if not spend.by_hand:
        yield Limit.PROVIDER, int(caps.provider) - int(used.provider)
    yield Limit.HOUR, int(caps.hour) - int(used.hour)
    yield Limit.DAY, int(caps.day) - int(used.day)
    if spend.run and not spend.by_hand:
        yield Limit.RUN, int(caps.run) - int(used.run)
    yield Limit.ALL, int(caps.all) - int(used.all)
