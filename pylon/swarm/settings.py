"""A customer's settings for asking the swarm. Times are seconds."""

from dataclasses import dataclass

from pylon.money.msat import ZERO, Msat
from pylon.nostr.event import is_hex64


def _check(low: int, **values: float) -> None:
    for name, value in values.items():
        # "Not at least" and not "below": nothing compares with a NaN.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= low:
            raise ValueError(f"{name} must be a number, {low} or more")


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How jobs are given out, watched and given out again.

    `width` jobs are in flight at most. A provider says within `ack_s` that it has the job, or the job goes
    elsewhere; likewise after `answer_s` without a result (twice what its speed makes of the job, where that is
    more), when somebody else could do it. One that says that it needs longer than `answer_s` loses the job without
    blame to one that would take far less. `attempts` providers may fail a job before it is given up, `silences`
    requests for it be met with silence (relays lose some), and `patience_s` is how long a job waits for anybody at
    all to come, where its own timeout is not shorter (in whole seconds, rounded up). While a provider that could
    take it says that it is loading its model, the job waits for as long as its timeout.
    """

    width: int = 2_000
    # Most requests in flight over one relay.
    relay_width: int = 2_000
    ack_s: float = 5.0
    answer_s: float = 60.0
    attempts: int = 4
    silences: int = 12
    refusals: int = 16
    patience_s: float = 10.0
    # Most jobs in flight at a provider, in multiples of its slots: one waits there while another runs.
    overcommit: float = 1.5
    # Of the jobs sent, the share that may go to a second provider; 0 turns hedging off.
    hedge_share: float = 0.1
    # A provider whose quote is the whole bid counts as slower by this part of its time.
    price_weight: float = 0.5
    # How many answers must be known before any attempt is called slow.
    samples: int = 20

    def __post_init__(self) -> None:
        _check(1, width=self.width, relay_width=self.relay_width, attempts=self.attempts, silences=self.silences)
        _check(1, refusals=self.refusals, overcommit=self.overcommit)
        _check(0, ack_s=self.ack_s, answer_s=self.answer_s, patience_s=self.patience_s, samples=self.samples)
        _check(0, hedge_share=self.hedge_share, price_weight=self.price_weight)


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """`share` of a run's jobs is what comparisons may cost, in further jobs."""

    share: float = 0.05

    def __post_init__(self) -> None:
        _check(0, share=self.share)


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """A customer's rules for all its jobs.

        SwarmSettings(allow=frozenset({key}))       # my own machines only
        SwarmSettings(plain=True)                   # providers that know NIP-90 only, too: relays read the prompt

    `allow` None asks anybody who is not in `block`. `bid` is the most that one job may cost; providers whose quote
    for it is higher are left alone, and at zero only free ones are asked. `own` are one's own machines: they come
    first, and what they say is not checked. These three are what a client begins with: `Circle` has what they become.
    Without `checks` nobody's answers are.
    """

    dispatch: DispatchSettings = DispatchSettings()
    checks: CheckSettings | None = CheckSettings()
    own: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    block: frozenset[str] = frozenset()
    plain: bool = False
    network: str = "play"
    bid: Msat = ZERO
    # Most publications that wait for a relay's OK; our relay stops reading at 256 per connection.
    publishing: int = 250
    # The deadline of a run that sets none.
    run_s: float = 3_600.0

    def __post_init__(self) -> None:
        _check(1, publishing=self.publishing)
        _check(0, bid=self.bid, run_s=self.run_s)
        for name in ("own", "allow", "block"):
            keys = getattr(self, name)
            if keys is None and name == "allow":
                continue
            if isinstance(keys, str) or not all(map(is_hex64, keys)):
                raise ValueError(f"{name} must be public keys, each of 64 lower-case hexadecimal characters")
            object.__setattr__(self, name, frozenset(keys))
