"""What all of a simulation shares: the clock, the relays, the machines, and the counts."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pylon.bench.simulation.clock import SimulatedClock
from pylon.bench.simulation.network import Network
from pylon.bench.simulation.plan import Plan
from pylon.bench.simulation.sizes import Sizes

if TYPE_CHECKING:
    from pylon.bench.simulation.machine import Machine


@dataclass(slots=True)
class Cost:
    """Real processor time of the customers' deciders, in ns: the only figure here that is not simulated."""

    decide_ns: int = 0
    commands: int = 0
    beat_ns: int = 0
    beats: int = 0

    @property
    def us_per_command(self) -> float:
        return self.decide_ns / 1_000 / max(1, self.commands)

    @property
    def us_per_heartbeat(self) -> float:
        return self.beat_ns / 1_000 / max(1, self.beats)

    @staticmethod
    def clock() -> int:
        """Processor time of this thread, in ns."""
        return time.thread_time_ns()


@dataclass(slots=True)
class Tally:
    """Counts of what happened."""

    delivered: int = 0
    wrong: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    hedges: int = 0
    cancelled: int = 0
    # Jobs that machines ran, including those whose answer nobody used.
    ran: int = 0
    topups: int = 0
    paid_msat: int = 0
    # Seconds from the start to each outcome.
    finished_at: list[float] = field(default_factory=list)
    last_at: float = 0.0


@dataclass(slots=True)
class World:
    """One simulation. All randomness comes from the plan's seed."""

    plan: Plan
    rng: random.Random
    clock: SimulatedClock
    network: Network
    sizes: Sizes
    machines: "dict[str, Machine]" = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    cost: Cost = field(default_factory=Cost)
    _ids: int = 0

    def new_id(self) -> str:
        """A new event id or public key: 64 hex characters."""
        self._ids += 1
        return f"{self._ids:064x}"

    def spread(self, sigma: float) -> float:
        """A log-normal factor with median 1; `sigma` is the spread of its logarithm."""
        return self.rng.lognormvariate(0.0, sigma)
