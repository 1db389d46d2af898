"""One simulation, from an empty world to its report."""

import gc
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pylon.bench.simulation.agenda import Agenda
from pylon.bench.simulation.machine import LIARS, Machine, Nature
from pylon.bench.simulation.measures import gini, ideal_s, quantile
from pylon.bench.simulation.network import HOP_S, MISSED_S, Network, Relay, url
from pylon.bench.simulation.person import Person
from pylon.bench.simulation.plan import Plan
from pylon.bench.simulation.sizes import measure
from pylon.bench.simulation.world import World
from pylon.collect import keep_for_good
from pylon.jobs.heartbeat import INTERVAL_S
from pylon.money.msat import ZERO, Msat
from pylon.money.price import FREE, Price
from pylon.provider.settings import ProviderSettings

# An honest machine is on as many relays as this, where there are so many.
RELAYS_EACH = 2
RELAYS_DIE_S = 1.0
PRICE_MSAT = 1_000
PRICE_SPREAD = 0.5
# Two times the median price, for the most bytes and tokens that a job can have.
BID_JOBS = 2
RUN_S = 3_600.0
PROGRESS_EVERY = 500

type OnProgress = Callable[[int, int, float], None]


class Stage:
    """One simulation, played as far as one likes. With `taped` its customers write down what they are told."""

    def __init__(self, plan: Plan, *, taped: bool = False) -> None:
        self.world = _world(plan)
        self.people = [Person(self.world, _bid(plan), taped=taped) for _ in range(plan.customers)]
        _populate(self.world, self.people)

    def begin(self) -> None:
        """All customers begin."""
        plan = self.world.plan
        for n, person in enumerate(self.people):
            person.begin(len(range(n, plan.jobs, plan.customers)), deadline_s=RUN_S)

    def play(self, jobs: int) -> bool:
        """Goes on until so many jobs have their outcome; False when all have, or nothing happens any more."""
        finished, agenda = self.world.tally.finished_at, self.world.agenda
        while len(finished) < jobs and agenda.step():
            pass
        return len(finished) >= jobs and jobs < self.world.plan.jobs


def simulate(plan: Plan, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Runs it; the report. All but `cost` follows from the plan alone, on any machine.

    `on_progress` is called with the jobs that have an outcome, all jobs, and the simulated seconds.
    """
    stage = Stage(plan)
    world = stage.world
    speeds = [(machine.true_s, plan.slots) for machine in world.machines.values() if machine.nature not in _CHEATS]
    ideal = ideal_s(plan.jobs, speeds, width=plan.width * plan.customers) + 4 * HOP_S
    # What exists by now would not be in a customer's process, and is no garbage.
    keep_for_good()
    try:
        stage.begin()
        told, goes_on = 0, True
        while goes_on:
            told = min(told + PROGRESS_EVERY, plan.jobs)
            goes_on = stage.play(told)
            if on_progress is not None:
                on_progress(len(world.tally.finished_at), plan.jobs, world.agenda.now)
    finally:
        gc.unfreeze()
    return _report(world, ideal)


_CHEATS = frozenset({*LIARS, Nature.OVERCHARGES})


def _world(plan: Plan) -> World:
    rng = random.Random(plan.seed)  # noqa: S311 - a model, to be repeated
    agenda = Agenda()
    network = Network(agenda, random.Random(rng.getrandbits(64)), [Relay() for _ in range(plan.relays)], plan.lost)  # noqa: S311
    return World(plan, rng, agenda, network, measure(random.Random(plan.seed)))  # noqa: S311


def _bid(plan: Plan) -> Msat:
    if not plan.paid:
        return ZERO
    price = Price(Msat(PRICE_MSAT))
    return price.quote(0, 0) * BID_JOBS


def _populate(world: World, people: list[Person]) -> None:
    plan = world.plan
    natures = _natures(world)
    for nature in natures:
        machine = _machine(world, nature)
        for event in (machine.announcement(), machine.heartbeat()):
            for person in people:
                person.hear(event)
        _live(world, machine, people, phase=world.rng.uniform(0, INTERVAL_S))
    # What customers heard before the start is no part of the run's cost.
    world.cost.beat_ns = world.cost.beats = 0
    dying = int(plan.relays * plan.dead_relays)
    if dying:
        world.agenda.at(RELAYS_DIE_S, lambda: world.network.die(dying))
        world.agenda.at(RELAYS_DIE_S + MISSED_S, lambda: _miss(people, dying))


def _miss(people: list[Person], dead: int) -> None:
    for person in people:
        person.miss(frozenset(map(url, range(dead))))


def _natures(world: World) -> list[Nature]:
    plan = world.plan
    cheats = (*LIARS, Nature.OVERCHARGES) if plan.paid else LIARS
    liars, slow = round(plan.providers * plan.liars), round(plan.providers * plan.stragglers)
    natures = [cheats[n % len(cheats)] for n in range(liars)] + [Nature.SLOW] * slow
    natures += [Nature.HONEST] * (plan.providers - len(natures))
    world.rng.shuffle(natures)
    return natures


def _machine(world: World, nature: Nature) -> Machine:
    plan, rng = world.plan, world.rng
    price = FREE
    if plan.paid:
        price = Price(Msat(round(PRICE_MSAT * world.spread(PRICE_SPREAD))))
    relays = tuple(rng.sample(range(plan.relays), min(RELAYS_EACH, plan.relays)))
    machine = Machine(
        world,
        nature,
        ProviderSettings(price=price, max_queue=plan.max_queue),
        plan.job_s * world.spread(plan.unlike),
        relays,
    )
    world.machines[machine.key] = machine
    return machine


def _live(world: World, machine: Machine, people: list[Person], *, phase: float | None) -> None:
    """Lets a machine beat, and perhaps die. `phase` None: a newcomer, who announces itself."""

    def hear(event: Any) -> None:
        for person in people:
            person.hear(event)

    if phase is None:
        machine.announce(hear, len(people))
    else:
        world.agenda.after(phase, lambda: machine.beat(hear, len(people)))
    if world.plan.churn:

        def leave() -> None:
            machine.die()
            _live(world, _machine(world, Nature.HONEST), people, phase=None)

        world.agenda.after(world.rng.expovariate(world.plan.churn / 60), leave)


def _report(world: World, ideal: float) -> dict[str, Any]:
    plan, tally, cost = world.plan, world.tally, world.cost
    ranked = sorted(tally.finished_at)
    honest = [machine for machine in world.machines.values() if machine.nature is Nature.HONEST]
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
