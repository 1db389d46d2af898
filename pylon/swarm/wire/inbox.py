"""Incoming answers: one subscription on all relays, and looks at what relays have stored for silent requests.

Each event is matched to its flight, read (`meaning`) and handed to `Answers`.
"""

import asyncio
from functools import partial

from pylon import log
from pylon.clock import Clock
from pylon.errors import UnreachableError
from pylon.forever import forever
from pylon.jobs.kinds import FEEDBACK, RESULT_KINDS
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.swarm.flights import Flight, Flights
from pylon.swarm.providers.presence import BATCH, CHUNK, SKEW_S
from pylon.swarm.transport import Subscription, Transport
from pylon.swarm.wire.answers import Answers
from pylon.swarm.wire.looks import Looks
from pylon.swarm.wire.meaning import read_answer
from pylon.swarm.wire.relay_watch import RelayWatch
from pylon.swarm.wire.requests import Requests

logger = log.get("swarm")

# How many silent requests one look sends again: when everything is silent, that must not flood the other relays.
MOST_REPEATS = 32
# Relays commonly answer with so many events at most, the newest, and not all of them say so.
_FULL = 500
# The most events for a look at `CHUNK` requests, and how often it asks for those that others have crowded out.
_MOST_EVENTS, _MOST_ROUNDS = 4_000, 8

ANSWER_KINDS = RESULT_KINDS | {FEEDBACK}


class Inbox:
    """Receives events of providers, and asks for those that were lost. `public` is the customer's key.

    A request for which relays have stored nothing is sent again over other relays, if there are any. It counts as
    unheard when that brings no word either.
    """

    def __init__(
        self,
        *,
        pool: Transport,
        keys: ConversationKeys,
        public: str,
        clock: Clock,
        flights: Flights,
        answers: Answers,
        requests: Requests,
        relays: RelayWatch,
    ) -> None:
        self._pool = pool
        self._flights = flights
        self._keys = keys
        self._public = public
        self._clock = clock
        self._answers = answers
        self._requests = requests
        self._relays = relays
        self._repeats_left = MOST_REPEATS
        self._looks = Looks()

    async def run(self) -> None:
        """Receives answers until cancelled."""
        subscription = self._pool.subscribe(self._filters, name="answers")
        try:
            await forever(partial(self._read, subscription), "answers")
        finally:
            await subscription.close()

    async def _read(self, subscription: Subscription) -> None:
        for received in await subscription.next_batch(BATCH):
            self._receive(received.event, received.relay)
        # A full queue would be read without a pause, and no request would be sent meanwhile.
        await asyncio.sleep(0)

    async def look(self) -> None:
        """Asks relays for stored answers to the requests that are due for that, if a look is due now."""
        now = self._clock.monotonic()
        if not self._looks.is_due(now):
            return
        silent = self._flights.silent(now)
        self._repeats_left = MOST_REPEATS
        self._looks.found(len(silent), await self.look_for(silent))

    async def look_for(self, flights: list[Flight]) -> int:
        """Asks relays for stored answers to these requests; returns for how many that brought the first word."""
        chunks = [flights[at : at + CHUNK] for at in range(0, len(flights), CHUNK)]
        return sum(await asyncio.gather(*map(self._look_for, chunks)))

    async def _look_for(self, flights: list[Flight]) -> int:
        found = 0
        for _ in range(_MOST_ROUNDS):
            asked_at = self._clock.monotonic()
            try:
                events = await self._pool.query((_answers_to(flights),), timeout=5.0)
            except UnreachableError:
                break
            # The oldest first, so that the pieces of a streamed answer come before its receipt.
            found += sum([self._receive(event) for event in sorted(events, key=lambda event: event.created_at)])
            # One provider may have stored any number of events for its own request: others are asked for again.
            crowded_out = _unnamed(flights, events) if len(events) >= _FULL else []
            again = {flight.request for flight in crowded_out}
            for flight in flights:
                if flight.request not in again and flight.is_lost(asked_at) and not self._sends_again(flight):
                    self._answers.unheard(flight)
            flights = crowded_out
            if not flights:
                break
        return found

    def _sends_again(self, flight: Flight) -> bool:
        if self._repeats_left <= 0 or not self._requests.repeat(flight):
            return False
        self._repeats_left -= 1
        return True

    def _filters(self) -> tuple[Filter, ...]:
        # Asked at each connection. Nothing older than the oldest open request can matter.
        oldest = min((flight.created_at for flight in self._flights), default=int(self._clock.wall()))
        return (Filter(kinds=ANSWER_KINDS, tags={"p": frozenset({self._public})}, since=oldest - SKEW_S),)

    def _receive(self, event: Event, relay: str | None = None) -> bool:
        """Takes in an event; whether it is the first word for one of our requests."""
        # All of them are told, also after the first for which it is news.
        return sum([self._answered(event, flight, relay) for flight in self._flights.asked(event, self._public)]) > 0

    def _answered(self, event: Event, flight: Flight, relay: str | None) -> bool:
        first, flight.heard = not flight.heard, True
        if first and flight.relay is not None:
            flight.event = None
            self._relays.spoke(flight, relay)
        self._looks.answered(self._clock.monotonic())
        try:
            meaning = read_answer(event, flight, self._keys)
            if meaning is not None:
                self._answers.heard(event, flight, meaning)
        except Exception as error:
            # A fault of ours with one answer, which must not keep the others from being heard.
            logger.error("an answer could not be processed", exc_info=error)
        return first


def _unnamed(flights: list[Flight], events: list[Event]) -> list[Flight]:
    """Those of the flights of which their providers say nothing in these events."""
    named = {(event.pubkey, request) for event in events for request in event.tag_values("e")}
    return [flight for flight in flights if (flight.provider, flight.request) not in named]


def _answers_to(flights: list[Flight]) -> Filter:
    return Filter(
        kinds=ANSWER_KINDS,
        authors=frozenset(flight.provider for flight in flights),
        tags={"e": frozenset(flight.request for flight in flights)},
        limit=_MOST_EVENTS,
    )
