"""A customer's deciders alone: given again what a simulated customer's deciders were given, without the simulation.

The simulation has every machine, relay and message in one process. Between two decisions it touches many thousand
machines, so a decision there also pays for a cold processor cache. A real customer does not: those machines are other
computers. Here heartbeats and decisions follow each other directly, in their original order.
"""

import gc
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from pylon.bench.simulation.network import url
from pylon.bench.simulation.plan import Plan
from pylon.bench.simulation.world import Cost
from pylon.nostr.event import Event
from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.providers.directory import Directory, ProviderUp
from pylon.swarm.settings import DispatchSettings


class Input(NamedTuple):
    """What the deciders were given at one moment: an announcement or heartbeat that was `heard` with the dispatcher's
    `events` that followed from it, or events alone. `now` is monotonic, `wall` Unix seconds."""

    now: float
    wall: float
    heard: Event | None
    events: tuple[m.SwarmEvent, ...]


class RecordedAnswers:
    """Records whether a provider was funded each time it is asked: in the replay the books say something else."""

    def __init__(self, funded: Callable[[], bool]) -> None:
        self._funded = funded
        self._said: deque[bool] = deque()

    def __call__(self) -> bool:
        """Asks the books, and records the answer."""
        self._said.append(self._funded())
        return self._said[-1]

    def again(self) -> bool:
        """The next recorded answer, in the same order."""
        return self._said.popleft()


def replayed(event: m.SwarmEvent) -> m.SwarmEvent:
    """The same event, with a listing that gives the recorded answers."""
    if isinstance(event, ProviderUp) and isinstance(event.listing.funded, RecordedAnswers):
        return ProviderUp(replace(event.listing, funded=event.listing.funded.again))
    return event


def deciders(plan: Plan, seed: int) -> tuple[Directory, Dispatcher]:
    """The deciders of one customer. The directory is large enough for everybody: its limit is not measured here."""
    directory = Directory(capacity=2 * plan.providers + 1_000)
    settings = DispatchSettings(width=plan.width, relay_width=plan.width)
    relays = [url(number) for number in range(plan.relays)]
    return directory, Dispatcher(settings, random.Random(seed), relays)  # noqa: S311 - a model, to be repeated


class Replay:
    """The deciders of one customer, built with its `seed`. The time that they take is added to `cost`."""

    def __init__(self, plan: Plan, seed: int, cost: Cost) -> None:
        self._cost = cost
        self._directory, self._dispatcher = deciders(plan, seed)

    def play(self, recording: list[Input]) -> None:
        """Gives these inputs to the deciders, in order."""
        # Collect the simulation's garbage first, so that the deciders do not pay for it.
        gc.collect(0)
        cost, directory, handle = self._cost, self._directory, self._dispatcher.handle
        for now, wall, heard, events in recording:
            started = Cost.clock()
            if heard is not None:
                directory.observe(heard, wall)
                for event in events:
                    handle(event, now)
                cost.beat_ns += Cost.clock() - started
                cost.beats += 1
                continue
            for event in events:
                cost.commands += len(handle(event, now))
            cost.decide_ns += Cost.clock() - started
            if isinstance(events[0], m.Tick):
                directory.expire(wall)
