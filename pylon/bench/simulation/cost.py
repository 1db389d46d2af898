"""What a decision costs at two sizes of the swarm, measured in turn, so that the machine's own mood is in both."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pylon.bench.simulation.plan import MOST_PROVIDERS, Plan
from pylon.bench.simulation.run import Stage
from pylon.bench.simulation.twin import Twin
from pylon.bench.simulation.world import Cost
from pylon.collect import keep_for_good

SIZES = (1_000, MOST_PROVIDERS)
# Outcomes until it is the other size's turn: some tens of milliseconds of decisions.
TURN = 500
# Where deciders are measured: among the simulation's machines and messages, and by themselves (see `twin`).
PLACES = ("in_the_model", "alone")

type Costs = dict[str, Cost]


class Side:
    """A swarm of one size: its simulation, and its customers' deciders once more by themselves."""

    def __init__(self, plan: Plan) -> None:
        self._jobs, self._played = plan.jobs, 0
        self._stage = Stage(plan, taped=True)
        self._alone = Cost()
        self._twins = [Twin(plan, person.seed, self._alone) for person in self._stage.people]
        self._replay()
        # What customers heard before the start is no part of the run's cost.
        self._alone.beat_ns = self._alone.beats = 0

    def begin(self) -> None:
        """All customers begin."""
        self._stage.begin()

    def take_turn(self) -> bool:
        """Plays on for a while; whether there is more."""
        self._played = min(self._played + TURN, self._jobs)
        goes_on = self._stage.play(self._played)
        self._replay()
        return goes_on

    def costs(self) -> Costs:
        """By place."""
        return dict(zip(PLACES, (self._stage.world.cost, self._alone), strict=True))

    def _replay(self) -> None:
        for person, twin in zip(self._stage.people, self._twins, strict=True):
            if person.tape is not None:
                twin.play(person.tape)
                person.tape.clear()


def decision_cost(base: Plan, repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Simulates `base` at both sizes, again and again; µs of the processor a command and a heartbeat, by place.

    Of the repetitions' figures and ratios the medians.
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
    # What exists by now would not be in a customer's process, and is no garbage.
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
