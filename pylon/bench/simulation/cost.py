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
# Where a decision is measured: by itself (see `twin`), and among the simulation's machines and messages.
PLACES = ("alone", "in_the_model")


class Side:
    """A swarm of one size: its simulation, and its customers' deciders once more by themselves."""

    def __init__(self, plan: Plan) -> None:
        self._jobs, self._played = plan.jobs, 0
        self._stage = Stage(plan, taped=True)
        self._twins = [Twin(plan, person.seed) for person in self._stage.people]
        self._replay()
        for twin in self._twins:
            # What was heard before the start is no part of the run's cost.
            twin.cost.beat_ns = twin.cost.beats = 0

    def begin(self) -> None:
        """All customers begin."""
        self._stage.begin()

    def take_turn(self) -> bool:
        """Plays on for a while; whether there is more."""
        self._played = min(self._played + TURN, self._jobs)
        goes_on = self._stage.play(self._played)
        self._replay()
        return goes_on

    def costs(self) -> dict[str, Cost]:
        """By place."""
        alone = [twin.cost for twin in self._twins]
        together = Cost(
            sum(cost.decide_ns for cost in alone),
            sum(cost.commands for cost in alone),
            sum(cost.beat_ns for cost in alone),
            sum(cost.beats for cost in alone),
        )
        return dict(zip(PLACES, (together, self._stage.world.cost), strict=True))

    def _replay(self) -> None:
        for person, twin in zip(self._stage.people, self._twins, strict=True):
            if person.tape is not None:
                twin.play(person.tape)
                person.tape.clear()


def decision_cost(base: Plan, repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Simulates `base` at both sizes, again and again; µs of the processor a command and a heartbeat, by place.

    A ratio is the median of the repetitions' ratios.
    """
    found = []
    for _ in range(repetitions):
        found.append(_once(base))
        for size, costs in found[-1].items():
            alone = costs[PLACES[0]]
            say(f"{size:,} machines: {alone.us_per_command:.1f} µs a command, {alone.us_per_heartbeat:.1f} a beat")
    return {
        "jobs": base.jobs,
        "repetitions": repetitions,
        **{
            place: _summary([{size: costs[place] for size, costs in once.items()} for once in found])
            for place in PLACES
        },
    }


def _once(base: Plan) -> dict[int, dict[str, Cost]]:
    sides = {size: Side(replace(base, providers=size)) for size in SIZES}
    # What exists by now is no garbage.
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


def _summary(found: list[dict[int, Cost]]) -> dict[str, Any]:
    small, large = SIZES
    measures: dict[str, Callable[[Cost], float]] = {
        "us_per_command": lambda cost: cost.us_per_command,
        "us_per_heartbeat": lambda cost: cost.us_per_heartbeat,
    }
    summary: dict[str, Any] = {}
    for what, of in measures.items():
        summary[what] = {f"{size}": round(statistics.median(of(costs[size]) for costs in found), 2) for size in SIZES}
    summary["ratio"] = round(statistics.median(c[large].us_per_command / c[small].us_per_command for c in found), 3)
    summary["heartbeat_ratio"] = round(
        statistics.median(c[large].us_per_heartbeat / c[small].us_per_heartbeat for c in found), 3
    )
    return summary
