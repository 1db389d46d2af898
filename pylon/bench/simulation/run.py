"""One simulation, from an empty world to its report."""

import gc
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pylon.bench.simulation.clock import SimulatedClock
from pylon.bench.simulation.customer import Customer
from pylon.bench.simulation.machine import LIARS, Behaviour, Machine
from pylon.bench.simulation.measures import gini, ideal_s, quantile
from pylon.bench.simulation.network import HOP_S, MISSED_S, Network, Relay, url
from pylon.bench.simulation.plan import Plan
from pylon.bench.simulation.sizes import measure
from pylon.bench.simulation.world import World
from pylon.collect import keep_for_good
from pylon.jobs.heartbeat import INTERVAL_S
from pylon.money.msat import ZERO, Msat
from pylon.money.price import FREE, Price
from pylon.provider.settings import ProviderSettings

# Relays of each machine, where there are so many.
RELAYS_EACH = 2
RELAYS_DIE_S = 1.0
PRICE_MSAT = 1_000
PRICE_SPREAD = 0.5
# The bid, in median prices of a job.
BID_JOBS = 2
RUN_S = 3_600.0
PROGRESS_EVERY = 500

type OnProgress = Callable[[int, int, float], None]


class Simulation:
    """One simulation, which can be played in parts. With `recorded` its customers record what they are told."""

    def __init__(self, plan: Plan, *, recorded: bool = False) -> None:
        self.world = _world(plan)
        self.customers = [Customer(self.world, _bid(plan), recorded=recorded) for _ in range(plan.customers)]
        _populate(self.world, self.customers)

    def begin(self) -> None:
        """Starts all customers."""
        plan = self.world.plan
        for n, customer in enumerate(self.customers):
            customer.begin(len(range(n, plan.jobs, plan.customers)), deadline_s=RUN_S)

    def play(self, jobs: int) -> bool:
        """Goes on until `jobs` jobs have an outcome. False if all have, or nothing is left to happen."""
        finished, clock = self.world.tally.finished_at, self.world.clock
        while len(finished) < jobs and clock.step():
            pass
        return len(finished) >= jobs and jobs < self.world.plan.jobs


def simulate(plan: Plan, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Runs a simulation; returns its report. All but `cost` depends on the plan alone, on any machine.

    `on_progress` is called with the jobs that have an outcome, all jobs, and the simulated seconds.
    """
    simulation = Simulation(plan)
    world = simulation.world
    speeds = [(machine.true_s, plan.slots) for machine in world.machines.values() if machine.behaviour not in _CHEATS]
    ideal = ideal_s(plan.jobs, speeds, width=plan.width * plan.customers) + 4 * HOP_S
    # The garbage collector need not look at the world: a customer's process would not hold it.
    keep_for_good()
    try:
        simulation.begin()
        told, goes_on = 0, True
        while goes_on:
            told = min(told + PROGRESS_EVERY, plan.jobs)
            goes_on = simulation.play(told)
            if on_progress is not None:
                on_progress(len(world.tally.finished_at), plan.jobs, world.clock.now)
    finally:
        gc.unfreeze()
    return _report(world, ideal)


_CHEATS = frozenset({*LIARS, Behaviour.OVERCHARGES})


def _world(plan: Plan) -> World:
    rng = random.Random(plan.seed)  # noqa: S311 - a model, to be repeated
    clock = SimulatedClock()
    network = Network(clock, random.Random(rng.getrandbits(64)), [Relay() for _ in range(plan.relays)], plan.lost)  # noqa: S311
    return World(plan, rng, clock, network, measure(random.Random(plan.seed)))  # noqa: S311


def _bid(plan: Plan) -> Msat:
    if not plan.paid:
        return ZERO
    price = Price(Msat(PRICE_MSAT))
    return price.quote(0, 0) * BID_JOBS


def _populate(world: World, customers: list[Customer]) -> None:
    plan = world.plan
    behaviours = _behaviours(world)
    for behaviour in behaviours:
        machine = _machine(world, behaviour)
        for event in (machine.announcement(), machine.heartbeat()):
            for customer in customers:
                customer.hear(event)
        _live(world, machine, customers, phase=world.rng.uniform(0, INTERVAL_S))
    # What customers heard before the start does not count.
    world.cost.beat_ns = world.cost.beats = 0
    dying = int(plan.relays * plan.dead_relays)
    if dying:
        world.clock.at(RELAYS_DIE_S, lambda: world.network.die(dying))
        world.clock.at(RELAYS_DIE_S + MISSED_S, lambda: _miss(customers, dying))


def _miss(customers: list[Customer], dead: int) -> None:
    for customer in customers:
        customer.miss(frozenset(map(url, range(dead))))


def _behaviours(world: World) -> list[Behaviour]:
    plan = world.plan
    cheats = (*LIARS, Behaviour.OVERCHARGES) if plan.paid else LIARS
    liars, slow = round(plan.providers * plan.liars), round(plan.providers * plan.stragglers)
    behaviours = [cheats[n % len(cheats)] for n in range(liars)] + [Behaviour.SLOW] * slow
    behaviours += [Behaviour.HONEST] * (plan.providers - len(behaviours))
    world.rng.shuffle(behaviours)
    return behaviours


def _machine(world: World, behaviour: Behaviour) -> Machine:
    plan, rng = world.plan, world.rng
    price = FREE
    if plan.paid:
        price = Price(Msat(round(PRICE_MSAT * world.spread(PRICE_SPREAD))))
    relays = tuple(rng.sample(range(plan.relays), min(RELAYS_EACH, plan.relays)))
    machine = Machine(
        world,
        behaviour,
        ProviderSettings(price=price, max_queue=plan.max_queue),
        plan.job_s * world.spread(plan.unlike),
        relays,
    )
    world.machines[machine.key] = machine
    return machine


def _live(world: World, machine: Machine, customers: list[Customer], *, phase: float | None) -> None:
    """Starts the heartbeats of a machine after `phase` seconds, and with churn its death. `phase` None: a newcomer,
    which announces itself first."""

    def hear(event: Any) -> None:
        for customer in customers:
            customer.hear(event)

    if phase is None:
        machine.announce(hear, len(customers))
    else:
        world.clock.after(phase, lambda: machine.beat(hear, len(customers)))
    if world.plan.churn:

        def leave() -> None:
            machine.die()
            _live(world, _machine(world, Behaviour.HONEST), customers, phase=None)

        world.clock.after(world.rng.expovariate(world.plan.churn / 60), leave)


def _report(world: World, ideal: float) -> dict[str, Any]:
    plan, tally, cost = world.plan, world.tally, world.cost
    ranked = sorted(tally.finished_at)
    honest = [machine for machine in world.machines.values() if machine.behaviour is Behaviour.HONEST]
    earned = [float(machine.earned_msat if plan.paid else machine.served) for machine in honest]
    traffic = {what: asdict(counted) for what, counted in sorted(world.network.traffic.items())}
    events = sum(kind["events_in"] + kind["events_out"] for kind in traffic.values())
    return {
        "plan": asdict(plan),
        "answered": tally.delivered,
        "failed": dict(sorted(tally.failed.items())),
        "wrong": tally.wrong,
        "wall_s": round(tally.last_at, 3),
        "ideal_s": round(ideal, 3),
        "ratio": round(tally.last_at / ideal, 3),
        "p50_s": round(quantile(ranked, 0.5), 3),
        "p99_s": round(quantile(ranked, 0.99), 3),
        "sent_per_job": round(tally.sent / plan.jobs, 4),
        "hedged": round(tally.hedges / plan.jobs, 4),
        "ran_in_vain": tally.ran - tally.delivered,
        "gini": round(gini(earned), 3),
        "gini_of_speed": round(gini([1 / machine.true_s for machine in honest]), 3),
        "topups": tally.topups,
        "paid_sats": round(tally.paid_msat / 1_000),
        "relay_events_per_job": round(events / plan.jobs, 2),
        "relay_busy": round(max(relay.busy_s for relay in world.network.relays) / max(tally.last_at, 1e-9), 3),
        "traffic": traffic,
        "cost": {
            "commands": cost.commands,
            "us_per_command": round(cost.us_per_command, 2),
            "us_per_heartbeat": round(cost.us_per_heartbeat, 2),
        },
    }
