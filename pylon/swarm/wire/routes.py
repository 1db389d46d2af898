"""Which relays a request goes over: one that both sides use or all of ours, and only relays that take its size."""

import random
from dataclasses import dataclass

from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.relay_url import shared_relays
from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.reach import Reach
from pylon.swarm.transport import Transport

# How many other relays a request is sent to that one relay did not take, or that met silence.
MOST_OTHERS = 2


@dataclass(slots=True)
class Routes:
    """Chooses relays. `reach` knows relays that providers use and this customer does not."""

    pool: Transport
    rng: random.Random
    dispatcher: Dispatcher
    reach: Reach | None

    def drawn(self, send: m.Send, listing: Listing) -> list[str] | None:
        """The one relay for a first attempt; None for all of ours."""
        if send.relay is not None:
            return [send.relay]
        theirs = [] if self.reach is None else self.reach.relays_of(listing)
        return [self.rng.choice(theirs)] if theirs else None

    def shared(self, listing: Listing) -> list[str]:
        """All relays that both sides use; without any, those over which `reach` reaches the provider."""
        there = shared_relays(listing.relays, self.pool.urls)
        return there if there or self.reach is None else self.reach.relays_of(listing)

    def others(self, listing: Listing, than: str | None) -> list[str]:
        """All shared relays except one."""
        return [url for url in self.shared(listing) if url != than]

    def emptiest_few(self, relays: list[str]) -> list[str]:
        """At most `MOST_OTHERS` of these relays, connected ones and those with the least in flight first.

        Where all relays are slow, sending each request again to all of them would make them slower.
        """
        left, found = relays.copy(), list[str]()
        while left and len(found) < MOST_OTHERS:
            found.append(self.dispatcher.emptiest(left))
            left.remove(found[-1])
        return found

    def takes(self, relays: list[str] | None) -> int:
        """The largest event, in bytes, that at least one of these relays takes; None for all of ours."""
        return self.pool.event_bytes(relays, most=MAX_EVENT_BYTES)

    def that_take_more(self, listing: Listing, limit: int) -> list[str]:
        """The shared relays that take events of more than `limit` bytes."""
        return [url for url in self.shared(listing) if self.takes([url]) > limit]

    def emptiest(self, relays: list[str], size: int) -> str:
        """Of these relays the one with the least in flight among those that take an event of `size` bytes."""
        return self.dispatcher.emptiest([url for url in relays if self.takes([url]) >= size])
