"""The plan of a simulation: sizes, times, and the shares of machines and relays that misbehave."""

import math
from dataclasses import dataclass

from pylon.errors import UsageError
from pylon.provider.settings import ProviderSettings
from pylon.swarm.settings import DispatchSettings

MOST_PROVIDERS = 100_000
MOST_JOBS = 1_000_000
_MOST_SECONDS = 1_000_000
_MOST_SPREAD = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times are seconds, `stragglers` to `lost` are shares from 0 to 1. Raises `UsageError`.

    `jobs` are those of all customers together. All customers begin at the same moment, the hardest case.
    """

    providers: int = 1_000
    jobs: int = 10_000
    customers: int = 1
    relays: int = 1
    seed: int = 1
    width: int = DispatchSettings().width
    slots: int = 1
    # Jobs that may wait in each line of a machine (`provider.customers`) before it says `busy`.
    max_queue: int = ProviderSettings().max_queue
    # A job's median time, and the spread of its logarithm: between machines, and between jobs on one machine.
    job_s: float = 2.0
    unlike: float = 0.3
    uneven: float = 0.1
    # Machines that take ten times what they advertise.
    stragglers: float = 0.0
    # Machines that cheat, each in a way of its own (`machine.Behaviour`).
    liars: float = 0.0
    # Machines that vanish without a word within a minute; as many newcomers take their place.
    churn: float = 0.0
    # Relays that die a second after the start.
    dead_relays: float = 0.0
    # Live events that never reach their reader.
    lost: float = 0.0
    # Work is paid: prices differ between machines, accounts and receipts are kept.
    paid: bool = False

    def __post_init__(self) -> None:
        shares = (self.stragglers, self.liars, self.churn, self.dead_relays, self.lost)
        if not all(0 <= share <= 1 for share in shares) or self.stragglers + self.liars > 1:
            raise UsageError("shares lie between 0 and 1", hint="0.05 is five per cent.")
        if not 1 <= self.providers <= MOST_PROVIDERS or not 1 <= self.customers <= self.jobs <= MOST_JOBS:
            raise UsageError(
                f"{self.providers:,} providers, {self.customers:,} customers and {self.jobs:,} jobs are no plan",
                hint=f"1 to {MOST_PROVIDERS:,} providers, up to {MOST_JOBS:,} jobs, and a job a customer at least.",
            )
        if (
            self.relays > MOST_PROVIDERS
            or max(self.slots, self.width, self.max_queue) > MOST_JOBS
            or not all(
                math.isfinite(value) and value <= _MOST_SECONDS for value in (self.job_s, self.unlike, self.uneven)
            )
        ):
            raise UsageError(
                f"relays go up to {MOST_PROVIDERS:,}, other counts to {MOST_JOBS:,}, a job to {_MOST_SECONDS:,} s"
            )
        if max(self.unlike, self.uneven) > _MOST_SPREAD:
            raise UsageError(
                f"a spread goes up to {_MOST_SPREAD}", hint="It is that of a logarithm: 1 is a factor of e."
            )
        if (
            min(self.relays, self.slots, self.width, self.max_queue) < 1
            or self.job_s <= 0
            or min(self.unlike, self.uneven) < 0
        ):
            raise UsageError("a swarm needs a relay, a slot and time to work")
