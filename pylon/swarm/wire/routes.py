"""Over which relays a request goes: one that both sides use, or all of them, and such as take one of its size."""

import random
from dataclasses import dataclass

from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.relay_url import shared_relays
from pylon.swarm.dispatch import moves as m
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.reach import Reach
from pylon.swarm.transport import Transport

# Over so many others a request goes that one relay did not take, or that met silence.
MOST_OTHERS = 2


@dataclass(slots=True)
class Routes:
    """See the module. `reach` knows relays of providers that are none of ours."""

    pool: Transport
    rng: random.Random
    dispatcher: Dispatcher
    reach: Reach | None

    def drawn(self, send: m.Send, listing: Listing) -> list[str] | None:
        """The one relay for a first try; None: all of ours."""
        if send.relay is not None:
            return [send.relay]
        theirs = [] if self.reach is None else self.reach.relays_of(listing)
        return [self.rng.choice(theirs)] if theirs else None

    def shared(self, listing: Listing) -> list[str]:
        """All that both sides use, those of `reach` where there is none of ours."""
        there = shared_relays(listing.relays, self.pool.urls)
        return there if there or self.reach is None else self.reach.relays_of(listing)

    def others(self, listing: Listing, than: str | None) -> list[str]:
        """All of these but one."""
        return [url for url in self.shared(listing) if url != than]

    def few(self, relays: list[str]) -> list[str]:
        """Of relays some that are connected, and have the most room: where all are slow, a request that went over one
        of them must not be sent to each."""
        left, found = relays.copy(), list[str]()
        while left and len(found) < MOST_OTHERS:
            found.append(self.dispatcher.emptiest(left))
            left.remove(found[-1])
        return found

    def takes(self, relays: list[str] | None) -> int:
        """The largest event that one of these relays takes, in bytes."""
        return self.pool.event_bytes(relays, most=MAX_EVENT_BYTES)

    def that_take_more(self, listing: Listing, limit: int) -> list[str]:
        """Those that both sides use and that take larger events than this, in bytes."""
        return [url for url in self.shared(listing) if self.takes([url]) > limit]

    def emptiest(self, relays: list[str], size: int) -> str:
        """Of relays the one that takes an event of so many bytes, and has the most room."""
        return self.dispatcher.emptiest([url for url in relays if self.takes([url]) >= size])
