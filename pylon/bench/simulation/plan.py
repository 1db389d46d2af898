"""The plan of a simulation: sizes, times, and the shares of machines and relays that misbehave."""

from dataclasses import dataclass

from pylon.errors import UsageError
from pylon.provider.settings import ProviderSettings
from pylon.swarm.settings import DispatchSettings

MOST_PROVIDERS = 100_000
MOST_JOBS = 1_000_000
# The least and the most of each setting.
_BOUNDS = (
    ("providers", 1, MOST_PROVIDERS),
    ("jobs", 1, MOST_JOBS),
    ("customers", 1, MOST_JOBS),
    ("relays", 1, MOST_PROVIDERS),
    ("width", 1, MOST_JOBS),
    ("slots", 1, MOST_JOBS),
    ("max_queue", 1, MOST_JOBS),
    ("job_s", 0.001, 1_000_000),
    # Spreads of a logarithm: 1 is a factor of e.
    ("unlike", 0, 10),
    ("uneven", 0, 10),
    ("stragglers", 0, 1),
    ("liars", 0, 1),
    ("churn", 0, 1),
    ("dead_relays", 0, 1),
    ("lost", 0, 1),
)


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
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            # Not a number is outside of every bound.
            if not least <= value <= most:
                raise UsageError(f"{name} is {value:,}: it must be between {least:,} and {most:,}")
        if self.customers > self.jobs:
            raise UsageError(
                f"{self.customers:,} customers are more than the jobs: {self.jobs:,}",
                hint="Each customer needs one job at least.",
            )
        if self.stragglers + self.liars > 1:
            raise UsageError("stragglers and liars are more than all machines: together they may be at most 1")
