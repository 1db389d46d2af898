"""Answers as relays bring them: one subscription, and a look at what they have stored for what stays silent."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

from pylon.clock import Clock
from pylon.errors import UnreachableError
from pylon.jobs.kinds import FEEDBACK, RESULT_KINDS
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.nip44 import ConversationKeys
from pylon.swarm.flights import Flight, Flights, Meaning, read_answer
from pylon.swarm.presence import BATCH, CHUNK, SKEW_S
from pylon.swarm.transport import Transport

ANSWER_KINDS = RESULT_KINDS | {FEEDBACK}
# A look waits while an answer came within the first time, but no longer than the second after the last look: well
# before the deadline of an acknowledgement.
LULL_S = 0.5
LOOK_LATEST_S = 2.5


class Inbox:
    """`heard` is called with an answer and what it means. `public` is the customer's key."""

    def __init__(
        self,
        pool: Transport,
        flights: Flights,
        keys: ConversationKeys,
        public: str,
        clock: Clock,
        heard: Callable[[Event, Flight, Meaning], None],
    ) -> None:
        self._pool = pool
        self._flights = flights
        self._keys = keys
        self._public = public
        self._clock = clock
        self._heard = heard
        self._last_answer_at = self._looked_at = -math.inf

    async def run(self) -> None:
        """Listens until cancelled."""
        subscription = self._pool.subscribe(self._filters, name="answers")
        try:
            while True:
                for received in await subscription.next_batch(BATCH):
                    self._receive(received.event)
                # A full queue would be read without a pause, and no further request would go out meanwhile.
                await asyncio.sleep(0)
        finally:
            await subscription.close()

    async def look(self) -> None:
        """Asks relays for stored answers to requests that were silent for a while.

        While answers stream in, the next ones are more likely on their way than lost, and a look costs the relay
        as much as a hundred of them: it waits for a lull, but not for long.
        """
        now = self._clock.monotonic()
        if now - self._last_answer_at < LULL_S and now - self._looked_at < LOOK_LATEST_S:
            return
        self._looked_at = now
        silent = self._flights.silent(now)
        await self.look_for(silent)

    async def look_for(self, flights: list[Flight]) -> None:
        """Asks relays for stored answers to these requests."""
        chunks = [flights[at : at + CHUNK] for at in range(0, len(flights), CHUNK)]
        await asyncio.gather(*map(self._look_for, chunks))

    async def _look_for(self, flights: list[Flight]) -> None:
        sought = Filter(
            kinds=ANSWER_KINDS,
            authors=frozenset(flight.provider for flight in flights),
            tags={"e": frozenset(flight.request for flight in flights)},
        )
        with suppress(UnreachableError):
            for event in await self._pool.query((sought,), timeout=5.0):
                self._receive(event)

    def _filters(self) -> tuple[Filter, ...]:
        # Asked anew at each connection: nothing older than what is still out can matter.
        oldest = min((flight.created_at for flight in self._flights), default=int(self._clock.wall()))
        return (Filter(kinds=ANSWER_KINDS, tags={"p": frozenset({self._public})}, since=oldest - SKEW_S),)

    def _receive(self, event: Event) -> None:
        flight = self._flights.asked(event, self._public)
        if flight is None:
            return
        self._last_answer_at = self._clock.monotonic()
        meaning = read_answer(event, flight, self._keys)
        if meaning is not None:
            self._heard(event, flight, meaning)
