"""How one request is published: over the relay that was drawn for it, then over others, within bounded time."""

from dataclasses import dataclass

from pylon.errors import ConnectionLostError, RateLimitedError, RelayError
from pylon.nostr.event import Event
from pylon.swarm.flights import Flight
from pylon.swarm.runs.deciders import Deciders
from pylon.swarm.transport import Transport
from pylon.swarm.wire.relay_watch import RelayWatch
from pylon.swarm.wire.routes import Routes

# How long relays have to acknowledge a request.
PATIENCE_S = 15.0
# How long the drawn relay has, where both sides use others, before the same event goes over those too.
HEAD_START_S = 3.0


@dataclass(slots=True)
class Publisher:
    """Publishes requests, and tells `relays` which relays refused one or stayed silent."""

    pool: Transport
    deciders: Deciders
    routes: Routes
    relays: RelayWatch

    async def publish(self, flight: Flight, event: Event, relays: list[str] | None) -> None:
        """Publishes a request; returns when a relay has acknowledged it.

        `relays` is the one relay that was drawn for it, or None for all of ours. The drawn relay has a head start.
        When it is not connected, refuses the event or does not acknowledge it, the same event goes over one or two
        others that both sides use: the provider recognises it and works once. Where there is no other, a relay that
        says `rate-limited` is waited for.

        Raises `RelayError` when no relay took it; `may_have_arrived` then covers every relay that was tried. Once the
        provider has been heard, or the attempt is over, the first relay's error is raised and no other is tried.
        """
        if relays is None or len(self.pool.urls) == 1:
            await self.pool.publish(event, relays=relays, timeout=PATIENCE_S)
            return
        [drawn] = relays
        listing = self.deciders.directory.get(flight.provider)
        if others := [] if listing is None else self.routes.others(listing, drawn):
            size = len(event.to_json())
            others = [url for url in others if self.routes.takes([url]) >= size]
        try:
            within = HEAD_START_S if others else PATIENCE_S
            await self.pool.publish(event, relays=relays, timeout=within, once=True)
            self.relays.accepted(drawn)
            return
        except RelayError as error:
            # A request that was cancelled meanwhile would be worked on in vain, and relays were asked to delete it.
            if flight.heard or not self.deciders.dispatcher.is_live(flight.attempt):
                raise
            first = error
        next_relays = self._after(first, drawn, others)
        if not next_relays:
            raise first
        if next_relays != relays:
            flight.relay = flight.event = None
        try:
            await self.pool.publish(event, relays=next_relays, timeout=PATIENCE_S)
        except RelayError as error:
            error.may_have_arrived |= first.may_have_arrived
            raise

    def _after(self, error: RelayError, drawn: str, others: list[str]) -> list[str]:
        """The relays to try next after the drawn one failed; that it refused or was silent is recorded."""
        fit = self.routes.emptiest_few(others)
        if isinstance(error, ConnectionLostError):
            return [drawn, *fit]
        if error.may_have_arrived:
            self.relays.silent(drawn)
            # Its OK may still come.
            return [drawn, *fit] if fit else []
        self.relays.refused(drawn, str(error))
        return fit or ([drawn] if isinstance(error, RateLimitedError) else [])
