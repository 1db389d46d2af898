"""What a decision costs at two sizes of the swarm, measured in turn, so that the machine's own mood is in both."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pylon.bench.simulation.plan import MOST_PROVIDERS, Plan
from pylon.bench.simulation.run import simulate

SIZES = (1_000, MOST_PROVIDERS)


def decision_cost(base: Plan, repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Simulates `base` at both sizes, again and again; µs of the processor a command and a heartbeat.

    The ratio is that of the medians.
    """
    found: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
    for _ in range(repetitions):
        for size in SIZES:
            cost = simulate(replace(base, providers=size))["cost"]
            found[size].append(cost)
            say(f"{size:,} machines: {cost['us_per_command']} µs a command, {cost['us_per_heartbeat']} a heartbeat")
    middle = {
        what: {size: statistics.median(cost[what] for cost in costs) for size, costs in found.items()}
        for what in ("us_per_command", "us_per_heartbeat")
    }
    small, large = SIZES
    return {
        "jobs": base.jobs,
        "repetitions": repetitions,
        **{what: {f"{size}": round(value, 2) for size, value in by.items()} for what, by in middle.items()},
        "ratio": round(middle["us_per_command"][large] / middle["us_per_command"][small], 3),
        "heartbeat_ratio": round(middle["us_per_heartbeat"][large] / middle["us_per_heartbeat"][small], 3),
    }
