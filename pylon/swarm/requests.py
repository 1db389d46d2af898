"""Requests on their way out: made for one provider, written down where a run asks for it, published, taken back."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from pylon import log
from pylon.clock import Clock
from pylon.errors import MalformedError, RelayError, TooLargeError
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.swarm import moves as m
from pylon.swarm.compose import bid_of, bounds_of, request_draft
from pylon.swarm.coordinator import Coordinator
from pylon.swarm.directory import Directory
from pylon.swarm.flights import Flight, Flights
from pylon.swarm.job import JobSpec
from pylon.swarm.journal import Sent
from pylon.swarm.listing import Listing
from pylon.swarm.outbox import Outbox, Work
from pylon.swarm.purse import Offer, Purse
from pylon.swarm.reach import Reach
from pylon.swarm.runs import Run
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.transport import Transport

logger = log.get("swarm")


@dataclass(slots=True)
class Requests:
    """`tell` takes what became of a sending, `run_of` finds the run of a slot."""

    pool: Transport
    secret: SecretKey
    keys: ConversationKeys
    clock: Clock
    rng: random.Random
    directory: Directory
    coordinator: Coordinator
    flights: Flights
    outbox: Outbox
    purse: Purse | None
    settings: Callable[[], SwarmSettings]
    tell: Callable[[m.SwarmEvent], None]
    run_of: Callable[[int], Run | None]
    fault: Callable[[int, str], None]
    reach: Reach | None = None

    def send(self, send: m.Send) -> None:
        """Sends when its turn comes, if it is still wanted then."""
        self.outbox.put(lambda: self._request(send))

    def cancel(self, requests: tuple[str, ...], kind: int, provider: str) -> None:
        """Tells a provider that these are not wanted any more, ahead of all that waits."""
        work = self._cancel(requests, kind, provider)
        self.outbox.put(lambda: work, first=True)

    def _request(self, send: m.Send) -> Work | None:
        if not self.coordinator.dispatcher.is_live(send.attempt):
            return None
        listing = self.directory.get(send.provider)
        if listing is None:
            self.tell(m.Refused(send.attempt, ErrorCode.PAUSED))
            return None
        now, wall = self.clock.monotonic(), self.clock.wall()
        spec = self.coordinator.spec_of(send.slot)
        expires_at = wall + send.expires_at - now
        # The second try of a job goes to all relays.
        relays = None if self.flights.of_slot(send.slot) else self._relays(send, listing)
        limit = self.pool.event_bytes(relays, most=MAX_EVENT_BYTES)
        try:
            offer = self._offer(send.slot, spec, listing)
            draft = request_draft(
                spec,
                listing,
                offer,
                self.keys,
                self.rng,
                created_at=int(wall),
                expires_at=expires_at,
                limit=limit,
            )
        except (TooLargeError, RequestError, MalformedError) as error:
            self._cannot(send, listing, error)
            return None
        event = self.secret.sign(draft)
        flight = Flight(event.id, event.kind, send.slot, send.attempt, send.provider, event.created_at, now, offer)
        self.flights.add(flight)
        return self._publish(flight, event, relays, expires_at)

    def _relays(self, send: m.Send, listing: Listing) -> list[str] | None:
        """One relay that both sides use."""
        if send.relay is not None:
            return [send.relay]
        theirs = [] if self.reach is None else self.reach.relays_of(listing)
        return [self.rng.choice(theirs)] if theirs else None

    def _cannot(self, send: m.Send, listing: Listing, error: Exception) -> None:
        if listing.plain:
            # What the open form cannot hold may well go sealed to somebody else.
            self.tell(m.Refused(send.attempt, ErrorCode.UNSUPPORTED_PARAM))
            return
        self.fault(send.slot, str(error))
        large = isinstance(error, TooLargeError)
        self.tell(m.Drop((send.slot,), m.Failure.TOO_LARGE if large else m.Failure.MALFORMED))

    def _offer(self, slot: int, spec: JobSpec, listing: Listing) -> Offer | None:
        if self.purse is None or listing.plain:
            return None
        dispatcher, bounds = self.coordinator.dispatcher, bounds_of(spec)
        jobs_left, run = dispatcher.open, self.coordinator.run_of(slot)
        left = dispatcher.budget_left(run) if run is not None else None
        quote = int(listing.price.quote(bounds.prompt_bytes, bounds.max_tokens))
        if left is not None and quote:
            # No more is left with a provider than the run may still spend.
            jobs_left = min(jobs_left, max(1, left // quote))
        return self.purse.offer(listing, bounds, bid=bid_of(spec, self.settings()), jobs_left=jobs_left)

    async def _publish(self, flight: Flight, event: Event, relays: list[str] | None, expires_at: float) -> None:
        await self._write_down(flight, expires_at)
        try:
            await self.pool.publish(event, relays=relays)
        except RelayError as error:
            logger.warning("request not taken", relays=relays or "all", error=str(error))
            self.tell(m.SendFailed(flight.attempt))
            return
        self.flights.went_out(flight.attempt, self.clock.monotonic())
        self.tell(m.Published(flight.attempt))

    async def _write_down(self, flight: Flight, expires_at: float) -> None:
        run, offer, journal = self.run_of(flight.slot), flight.offer, None
        if run is not None and run.journal is not None:
            # Before anybody can work for it: whoever takes the run up again asks after it first.
            place, listing = self.coordinator.place_of(flight.slot), None if offer is None else offer.listing
            # Waited for below, so that both rows go to disk in one commit.
            journal = run.journal.sent(Sent.of(flight, place, expires_at, listing))
        try:
            if self.purse is not None and offer is not None:
                # Before anybody can charge for it: the receipt must be known for what it is after a crash too.
                await self.purse.ordered(flight.request, flight.kind, offer)
        finally:
            if journal is not None:
                await journal

    async def _cancel(self, requests: tuple[str, ...], kind: int, provider: str) -> None:
        draft = cancel_draft(requests, kind, provider, created_at=int(self.clock.wall()))
        try:
            await self.pool.publish(self.secret.sign(draft), timeout=5.0)
        except RelayError as error:
            logger.info("cancellation not taken", error=str(error))
