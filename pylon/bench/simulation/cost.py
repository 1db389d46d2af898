"""The processor time of a decision at two sizes of the swarm, measured in turn so that other load hits both alike."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pylon.bench.simulation.plan import MOST_PROVIDERS, Plan
from pylon.bench.simulation.replay import Replay
from pylon.bench.simulation.run import Simulation
from pylon.bench.simulation.world import Cost
from pylon.collect import keep_for_good

SIZES = (1_000, MOST_PROVIDERS)
# Job outcomes until it is the other size's turn: some tens of milliseconds of decisions.
TURN = 500
# Where the deciders are measured: within the simulation, and alone (see `replay`).
PLACES = ("in_the_model", "alone")

type Costs = dict[str, Cost]


class Side:
    """A swarm of one size: its simulation, and the replays of its customers' deciders."""

    def __init__(self, plan: Plan) -> None:
        self._jobs, self._played = plan.jobs, 0
        self._simulation = Simulation(plan, recorded=True)
        self._alone = Cost()
        self._replays = [Replay(plan, customer.seed, self._alone) for customer in self._simulation.customers]
        self._replay()
        # What customers heard before the start does not count.
        self._alone.beat_ns = self._alone.beats = 0

    def begin(self) -> None:
        """Starts all customers."""
        self._simulation.begin()

    def take_turn(self) -> bool:
        """Simulates the next `TURN` outcomes, and replays them; False when all jobs have an outcome."""
        self._played = min(self._played + TURN, self._jobs)
        goes_on = self._simulation.play(self._played)
        self._replay()
        return goes_on

    def costs(self) -> Costs:
        """The costs so far, by place."""
        return dict(zip(PLACES, (self._simulation.world.cost, self._alone), strict=True))

    def _replay(self) -> None:
        for customer, replay in zip(self._simulation.customers, self._replays, strict=True):
            if customer.recording is not None:
                replay.play(customer.recording)
                customer.recording.clear()


def decision_cost(base: Plan, repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Simulates `base` at both sizes; processor µs of a command and of a heartbeat, by place.

    Figures and ratios are medians over the repetitions.
    """
    found: list[dict[int, Costs]] = []
    for _ in range(repetitions):
        found.append(_once(base))
        for size, costs in found[-1].items():
            words = (f"{costs[place].us_per_command:.1f} {place.replace('_', ' ')}" for place in PLACES)
            say(f"{size:,} machines: µs a command {', '.join(words)}")
    return {"jobs": base.jobs, "repetitions": repetitions, **{place: _summary(found, place) for place in PLACES}}


def _once(base: Plan) -> dict[int, Costs]:
    sides = {size: Side(replace(base, providers=size)) for size in SIZES}
    # The garbage collector need not look at the world: a customer's process would not hold it.
    keep_for_good()
    try:
        for side in sides.values():
            side.begin()
        going = list(sides.values())
        while going:
            going = [side for side in going if side.take_turn()]
    finally:
        gc.unfreeze()
    return {size: side.costs() for size, side in sides.items()}


def _summary(found: list[dict[int, Costs]], place: str) -> dict[str, Any]:
    small, large = SIZES
    summary: dict[str, Any] = {}
    for what, ratio in (("us_per_command", "ratio"), ("us_per_heartbeat", "heartbeat_ratio")):
        us = [{size: getattr(costs[place], what) for size, costs in once.items()} for once in found]
        summary[what] = {f"{size}": round(statistics.median(once[size] for once in us), 2) for size in SIZES}
        summary[ratio] = round(statistics.median(once[large] / once[small] for once in us), 3)
    return summary
