"""Outgoing requests: made for one provider, written to disk where that is needed, published, cancelled.

The dispatcher's `Send` and `CancelAttempt` commands come in through `Conductor`; `Outbox` bounds how many are
published at once, and `Publisher` takes one over its relays. The dispatcher is told `Published`, `SendFailed` or why
there was nothing to send.
"""

import logging
import random
import sqlite3
from dataclasses import dataclass
from functools import partial

from pylon import log
from pylon.clock import Clock
from pylon.errors import MalformedError, MoneyError, RelayError, TooLargeError
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.size import event_bytes
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey
from pylon.swarm.compose import bounds_of, request_draft
from pylon.swarm.dispatch import messages as m
from pylon.swarm.flights import Flight, Flights
from pylon.swarm.job import FailureDetail
from pylon.swarm.providers.listing import Listing
from pylon.swarm.rows import Row, written
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.runs.open_runs import OpenRuns
from pylon.swarm.runs.places import Piece
from pylon.swarm.spending.purse import Offer, Purse
from pylon.swarm.transport import Transport
from pylon.swarm.wire.outbox import Outbox, Work
from pylon.swarm.wire.publishing import Publisher
from pylon.swarm.wire.routes import Routes
from pylon.swarm.wire.unsent import dearer, not_made, not_taken, not_written

logger = log.get("swarm")


@dataclass(slots=True, kw_only=True)
class Requests:
    """Sends, repeats and cancels requests."""

    pool: Transport
    secret: SecretKey
    keys: ConversationKeys
    clock: Clock
    rng: random.Random
    deciders: Deciders
    runs: OpenRuns
    flights: Flights
    outbox: Outbox
    purse: Purse | None
    routes: Routes
    publisher: Publisher

    def send(self, send: m.Send) -> None:
        """Makes and publishes the request when its turn comes, if its attempt is still live by then."""
        self.outbox.put(partial(self._made, send))

    def cancel(self, requests: tuple[str, ...], kind: int, provider: str) -> None:
        """Tells a provider that these requests are no longer wanted, ahead of everything that waits in the outbox."""
        self.outbox.put(partial(self._cancel, requests, kind, provider), first=True)

    def repeat(self, flight: Flight) -> bool:
        """Publishes the same event over other relays that its provider uses; False when there are none.

        That happens at most once for a flight. The provider recognises the event and answers on those relays too.
        """
        event, flight.event = flight.event, None
        listing = self.deciders.directory.get(flight.provider)
        if event is None or listing is None or flight.may_be_back:
            return False
        others = self.routes.emptiest_few(self.routes.others(listing, flight.relay))
        if not others:
            return False
        flight.repeated = True
        self.outbox.put(partial(self._again, flight, event, others), first=True)
        return True

    def _again(self, flight: Flight, event: Event, relays: list[str]) -> Work | None:
        # A cancelled request would be worked on in vain, and relays were asked to delete it.
        return None if flight.heard or flight.may_be_back else self._published_again(event, relays)

    async def _published_again(self, event: Event, relays: list[str]) -> None:
        try:
            await self.pool.publish(event, relays=relays)
        except RelayError as error:
            logger.info("a request was not accepted by another relay", relays=relays, error=str(error))

    def _made(self, send: m.Send) -> Work | None:
        try:
            return self._request(send)
        except Exception as error:
            # A fault of ours. Nothing was sent, so its job must not wait for an answer.
            logger.error("a request could not be created", exc_info=error)
            self.runs.explain(send.slot, not_made(error))
            self.deciders.tell(m.SendFailed(send.attempt, unmade=True))
            return None

    def _request(self, send: m.Send) -> Work | None:
        if not self.deciders.dispatcher.is_live(send.attempt):
            return None
        listing = self.deciders.directory.get(send.provider)
        if listing is None:
            self.deciders.tell(m.Refused(send.attempt, ErrorCode.PAUSED))
            return None
        now, wall = self.clock.monotonic(), self.clock.wall()
        piece = self.deciders.pieces.by_slot[send.slot]
        expires_at = wall + send.expires_at - now
        # The second attempt of a job goes over all relays.
        relays = None if self.flights.of_slot(send.slot) else self.routes.drawn(send, listing)
        try:
            offer = self._offer(piece, listing)
            if offer is not None and offer.quote > self.deciders.dispatcher.cost(send.attempt):
                # The provider raised its price after it was chosen: bid and budget were checked against the old one.
                self.runs.explain(send.slot, dearer())
                self.deciders.tell(m.SendFailed(send.attempt, unmade=True))
                return None
            draft, chosen = self._draft(piece, listing, offer, relays, int(wall), expires_at)
        except (TooLargeError, RequestError, MalformedError, MoneyError) as error:
            self._cannot(send, listing, error)
            return None
        if chosen != relays and not self._rerouted(send, chosen):
            return None
        event = self.secret.sign(draft)
        flight = Flight(event.id, event.kind, send.slot, send.attempt, send.provider, event.created_at, now, offer)
        flight.offered, flight.stream = listing.models, piece.spec.stream
        if chosen is not None and len(chosen) == 1 and len(self.pool.urls) > 1:
            flight.relay, flight.event = chosen[0], event
        self.flights.add(flight)
        return self._publish(flight, piece, event, chosen, expires_at)

    def _rerouted(self, send: m.Send, relays: list[str] | None) -> bool:
        """Tells the dispatcher which relay the request goes over instead; False when its attempt is over after that.

        Telling it frees a place on the relay that was drawn, and other requests go out before this returns.
        """
        for url in relays or ():
            self.deciders.tell(m.Rerouted(send.attempt, url))
        return self.deciders.dispatcher.is_live(send.attempt)

    def _draft(
        self,
        piece: Piece,
        listing: Listing,
        offer: Offer | None,
        relays: list[str] | None,
        created_at: int,
        expires_at: float,
    ) -> tuple[EventDraft, list[str] | None]:
        """The request, and its relays: another in place of the drawn one where that takes no event of its size.

        Raises what `request_draft` does.
        """
        make = partial(
            request_draft, piece.spec, listing, offer, self.keys, self.rng, created_at=created_at,
            expires_at=expires_at,
        )  # fmt: skip
        limit = self.routes.takes(relays or self.routes.shared(listing) or None)
        try:
            return make(limit=limit), relays
        except TooLargeError:
            larger = self.routes.that_take_more(listing, limit)
            if not larger:
                raise
        draft = make(limit=self.routes.takes(larger))
        return draft, [self.routes.emptiest(larger, event_bytes(draft))]

    def _cannot(self, send: m.Send, listing: Listing, error: Exception) -> None:
        if listing.plain:
            # The open form could not hold it. Sealed, to another provider, it may go.
            self.deciders.tell(m.Refused(send.attempt, ErrorCode.UNSUPPORTED_PARAM))
            return
        reason = m.Failure.TOO_LARGE if isinstance(error, TooLargeError) else m.Failure.MALFORMED
        self.runs.explain(send.slot, FailureDetail(reason, str(error)))
        if reason is m.Failure.MALFORMED:
            self.deciders.tell(m.Drop((send.slot,), reason))
        elif (there := self.routes.shared(listing)) and self.routes.takes(there) < self.routes.takes(None):
            # Other providers may be reached over relays that take larger events.
            self.deciders.tell(m.SendFailed(send.attempt, unmade=True, too_large=True))
        else:
            self.deciders.tell(m.Drop((send.slot,), reason))

    def _offer(self, piece: Piece, listing: Listing) -> Offer | None:
        # Our own machines work for free, whatever price they announce to others.
        if self.purse is None or listing.plain or self.deciders.circle.is_own(listing.provider):
            return None
        dispatcher = self.deciders.dispatcher
        left = dispatcher.budget_left(piece.run)
        bounds, bid = bounds_of(piece.spec), piece.job.need.bid
        return self.purse.offer(listing, bounds, bid=bid, jobs_left=dispatcher.unfilled, left=left)

    async def _publish(
        self, flight: Flight, piece: Piece, event: Event, relays: list[str] | None, expires_at: float
    ) -> None:
        try:
            if rows := self._rows(flight, piece, expires_at):
                await written(rows)
        except Exception as error:
            # It was not sent, and its job goes to another provider.
            logger.failed("a request could not be written down", error)
            self.runs.explain(
                flight.slot, not_written(error) if isinstance(error, sqlite3.Error) else not_made(error)
            )
            self.deciders.tell(m.SendFailed(flight.attempt))
            return
        try:
            await self.publisher.publish(flight, event, relays)
        except RelayError as error:
            # A word of its provider's shows that it arrived, whatever relays did not say.
            if not flight.heard:
                self._not_taken(flight, relays, error)
                return
        except Exception as error:
            # A fault of ours, after which nobody knows whether it was sent. It counts as sent: its cost stays
            # reserved, and when its provider is silent another one is asked.
            logger.failed("a publication ended with an error", error)
        self.flights.went_out(flight.attempt, self.clock.monotonic())
        self.deciders.tell(m.Published(flight.attempt))

    def _not_taken(self, flight: Flight, relays: list[str] | None, error: RelayError) -> None:
        # A request that was cancelled meanwhile is refused because relays were asked to delete it.
        unwanted = not self.deciders.dispatcher.is_live(flight.attempt)
        level = logging.DEBUG if unwanted else logging.WARNING
        logger.log(level, "request not accepted", relays=relays or "all", error=str(error))
        self.runs.explain(flight.slot, not_taken(error, self.pool.statuses))
        if error.may_have_arrived:
            # Its provider may be working on it, and its answer is looked for.
            self.flights.went_out(flight.attempt, self.clock.monotonic())
        self.deciders.tell(m.SendFailed(flight.attempt, unknown=error.may_have_arrived))

    def _rows(self, flight: Flight, piece: Piece, expires_at: float) -> list[Row]:
        """The rows that must be on disk before the request is published."""
        rows: list[Row] = []
        run, offer = self.runs.by_number.get(piece.run), flight.offer
        if run is not None and run.journal is not None:
            # Before a provider can work on it: a process that resumes the run asks for its answer first.
            place = piece.place if piece.opinion_of is None else None
            rows.append(run.journal.sent(flight, place, expires_at))
            flight.journal = run.journal
        if self.purse is not None and offer is not None:
            # Before a provider can charge for it: after a crash its receipt must still be recognised.
            ordered = self.purse.ordered(flight.request, flight.kind, offer)
            if ordered is not None:
                rows.append(ordered)
        return rows

    async def _cancel(self, requests: tuple[str, ...], kind: int, provider: str) -> None:
        draft = cancel_draft(requests, kind, provider, created_at=int(self.clock.wall()))
        try:
            await self.pool.publish(self.secret.sign(draft), timeout=5.0)
        except RelayError as error:
            logger.info("cancellation not accepted", error=str(error))
