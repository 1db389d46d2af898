"""A customer's deciders by themselves: told once more what a simulated customer's were, with no world around them.

The simulation has every machine, relay and message in one process. What a decision costs there is also the cost of
finding it in a processor's cache that a hundred thousand machines went through since the last one; and those are
computers elsewhere. Here heartbeats and decisions alone follow each other, in the order in which they came.
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
from pylon.swarm.dispatch import moves as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.providers.directory import Directory, ProviderUp
from pylon.swarm.settings import DispatchSettings


class Told(NamedTuple):
    """What deciders were told at one moment: an announcement or a heartbeat that was `heard`, and the dispatcher's
    `events` that came of it; or these alone. `now` is monotonic, `wall` Unix seconds."""

    now: float
    wall: float
    heard: Event | None
    events: tuple[m.SwarmEvent, ...]


class Recorded:
    """Answers to whether a provider is funded, to be given once more: by then the books say something else."""

    def __init__(self, funded: Callable[[], bool]) -> None:
        self._funded = funded
        self._said: deque[bool] = deque()

    def __call__(self) -> bool:
        """What the books say now."""
        self._said.append(self._funded())
        return self._said[-1]

    def again(self) -> bool:
        """What they said, in the same order."""
        return self._said.popleft()


def replayed(event: m.SwarmEvent) -> m.SwarmEvent:
    """The same event, whose listing answers as it did."""
    if isinstance(event, ProviderUp) and isinstance(event.listing.funded, Recorded):
        return ProviderUp(replace(event.listing, funded=event.listing.funded.again))
    return event


def deciders(plan: Plan, seed: int) -> tuple[Directory, Dispatcher]:
    """Those of one customer. The table turns nobody away: how large it may be is not what is asked here."""
    directory = Directory(capacity=2 * plan.providers + 1_000)
    settings = DispatchSettings(width=plan.width, relay_width=plan.width)
    relays = [url(number) for number in range(plan.relays)]
    return directory, Dispatcher(settings, random.Random(seed), relays)  # noqa: S311 - a model, to be repeated


class Twin:
    """See the module. `seed` is that of the customer; what it takes is added to `cost`."""

    def __init__(self, plan: Plan, seed: int, cost: Cost) -> None:
        self._cost = cost
        self._directory, self._dispatcher = deciders(plan, seed)

    def play(self, tape: list[Told]) -> None:
        """Is told this."""
        # What the model made since is not the deciders' to look through.
        gc.collect(0)
        cost, directory, handle = self._cost, self._directory, self._dispatcher.handle
        for now, wall, heard, events in tape:
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
