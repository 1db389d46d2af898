"""The customer's deciders, as its edges meet them: told something at the present time, and obeyed at once.

What is known of providers (`directory`, `reputation`, `circle`) decides with the dispatcher, the checks and the
coordinator, who puts these two together. Edges take this one object and tell it what they see.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from pylon.clock import Clock
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.reputation import Reputation
from pylon.swarm.circle import Circle
from pylon.swarm.dispatch import moves as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.providers.directory import Directory
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.places import RunCommand
from pylon.swarm.settings import SwarmSettings


class Deciders:
    """See the module. `relays` are the addresses of ours; `reputation` is seen with this circle from now on."""

    follow: Callable[[list[RunCommand]], None]
    """Does what they command: `Conductor` sets it, whose edges need the deciders before."""

    def __init__(
        self,
        settings: SwarmSettings,
        clock: Clock,
        rng: random.Random,
        relays: Sequence[str] = (),
        reputation: Reputation | None = None,
    ) -> None:
        self.circle = Circle(settings.own, settings.allow, settings.block)
        self.directory = Directory(circle=self.circle)
        self.reputation = Reputation() if reputation is None else reputation
        self.reputation.circle = self.circle
        self.checks = None if settings.checks is None else Checks(settings.checks, self.reputation, rng)
        self.dispatcher = Dispatcher(settings.dispatch, rng, relays)
        self.coordinator = Coordinator(self.dispatcher, self.checks, self.circle)
        self._clock = clock

    def known(self) -> Iterator[str]:
        """Whom we know by name: our own machines, those who alone may be asked, or else who answered us of late."""
        allow = self.circle.allow
        return chain(self.circle.own, self.reputation.answering(self._clock.wall()) if allow is None else allow)

    def tell(self, event: m.SwarmEvent) -> None:
        """They hear of something, and what they command is done."""
        self.follow(self.coordinator.handle(event, self._clock.monotonic(), self._clock.wall()))
